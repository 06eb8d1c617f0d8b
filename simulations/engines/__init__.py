"""How simulated sites run: in this process, on Ray, or as separate processes."""
