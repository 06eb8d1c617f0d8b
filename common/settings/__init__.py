"""The settings of a run, by subject; ``common.config`` joins them."""
