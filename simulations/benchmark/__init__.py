"""Benchmarks: of this machine, and of methods by a plan."""
