"""Differential privacy: clipping, noise, and the cost of releases."""
