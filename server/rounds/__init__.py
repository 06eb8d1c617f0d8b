"""The rounds of a run: requests to sites, their answers, the next head."""
