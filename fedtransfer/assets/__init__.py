"""Package data: the bundled backbone and the demo images."""
