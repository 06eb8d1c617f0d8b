"""Secure aggregation: a site's part."""
