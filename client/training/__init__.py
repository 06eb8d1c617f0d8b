"""Training at a site: a head, sums for a head, and what is sent of them."""
