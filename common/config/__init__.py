"""The settings of a run: how they are read, and which go together."""
