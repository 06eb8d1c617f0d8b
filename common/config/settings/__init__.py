"""The settings of a run, by subject; ``fedtransfer.common.config.config`` joins them."""
