"""The run folder on disk: checkpoints, plots, the summary, and the records behind them."""
