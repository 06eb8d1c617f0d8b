"""Secure aggregation: the server's part."""
