"""Data of simulated sites: known data sets, partitions, and sites that are held out."""
