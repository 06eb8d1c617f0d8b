"""Coordinate-wise trimmed mean: the largest and the smallest entries are left out."""

from fedtransfer.common.methods.method import Method, refused

_EVERY_UPDATE = refused("it looks at every site's update")

TRIMMED_MEAN = Method(
    name="trimmed-mean",
    title="Coordinate-wise trimmed mean",
    paper="arXiv 1803.01498",
    options=("trim",),
    masks=_EVERY_UPDATE,
    dp_site=_EVERY_UPDATE,
    weighted=False,
)
