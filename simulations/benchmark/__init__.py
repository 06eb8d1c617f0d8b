"""Benchmarks: of methods by a plan, and of this machine."""

# The plans that come with it, in fedtransfer/assets/plans/, and how long one takes on two cores: as measured, or else "hours".
PRESETS = {
    "quick": "2 minutes",
    "demo": "5 minutes",
    "personalisation": "13 minutes",
    "depths": "an hour",
    "heads": "1.5 hours",
    "heterogeneity": "hours",
    "privacy": "hours",
    "published": "hours",
    "resolution": "hours",
}
