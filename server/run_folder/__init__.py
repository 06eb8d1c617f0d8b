"""What a run leaves on disk: checkpoints, tables, plots and the summary."""
