"""Data of simulated sites: named data sets, partitions, and sites held out of training."""
