"""Personal heads, as server and sites agree on them."""

# The heads that a site compares, in the order of the counts that it sends.
KINDS = ("global", "local", "fine_tuned", "mixed")
