"""What server and sites agree on about personal heads."""

# The heads that a site compares, in the order of the counts that it sends.
KINDS = ("global", "local", "fine_tuned", "mixed")
