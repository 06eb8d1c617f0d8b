"""What a configuration promises and does not promise about privacy."""
