"""A site's part of secure aggregation."""
