"""The server's part of secure aggregation."""
