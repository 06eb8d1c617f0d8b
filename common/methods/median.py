"""Coordinate-wise median: fewer than half of the sites cannot drive it anywhere."""

from fedtransfer.common.methods.method import Method, refused

_EVERY_UPDATE = refused("it looks at every site's update")

MEDIAN = Method(
    name="median",
    title="Coordinate-wise median",
    paper="arXiv 1803.01498",
    masks=_EVERY_UPDATE,
    dp_site=_EVERY_UPDATE,
    weighted=False,
)
