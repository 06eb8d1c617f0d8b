"""How good a run is: baselines, and scores on test images."""
