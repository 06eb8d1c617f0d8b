"""Simulated federations: data sets, partitions, the in-process engine and honest baselines."""
