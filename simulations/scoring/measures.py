"""Names and limits on which benchmarks, audits and their reports agree."""

BASELINES = ("local only", "pooled softmax", "pooled ridge", "pooled NCM", "pooled LDA", "majority class")
REACHED = 0.95  # share of the pooled softmax head's accuracy at which rounds and bytes are counted
FEWEST_FALSE_ALARMS = 10  # answers on non-members that a false positive rate must rest on
