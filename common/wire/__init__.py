"""The wire: typed messages, their records in Flower, bundles, and sums that may be masked."""
