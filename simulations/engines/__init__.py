"""The three engines of simulated sites: in this process, on Ray, or as separate processes."""
