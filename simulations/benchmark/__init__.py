"""Benchmarks: of methods by a plan, and of this machine."""

# The plans that come with it, in fedtransfer_assets/plans/.
PRESETS = ("quick", "heterogeneity", "privacy", "personalisation", "published", "resolution", "demo", "heads", "depths")
