"""Benchmarks: methods compared by a plan of runs."""

# The plans in fedtransfer/assets/plans/, and their time on two cores: measured, or else "hours".
PRESETS = {
    "quick": "2 minutes", "options": "3 minutes", "demo": "5 minutes", "hostile": "minutes",
    "personalisation": "13 minutes", "depths": "an hour", "heads": "1.5 hours", "heterogeneity": "hours",
    "privacy": "hours", "published": "hours", "resolution": "hours",
}  # fmt: skip
