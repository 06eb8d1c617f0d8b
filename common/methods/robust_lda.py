"""Robust LDA: linear discriminant analysis of medians over sites, of sums that travel once."""

from fedtransfer.common.methods.fed3r import FED3R
from fedtransfer.common.methods.method import Method, refused

_EVERY_SITE = refused("it takes medians over the sites' class means, which a total does not show")
_ADDED_NOISE = refused("it takes medians over the sites' scatter, which noise at each site would drown")

ROBUST_LDA = Method(
    name="robust-lda",
    title="Robust LDA",
    paper="arXiv 1912.13445, on class means",
    options=("ridge",),
    sums=FED3R.sums,
    sends=FED3R.sends,
    leaks=FED3R.leaks,
    down=FED3R.down,
    up=FED3R.up,
    before=FED3R.before,
    masks=_EVERY_SITE,
    dp_site=FED3R.dp_site,
    dp_image=_ADDED_NOISE,
)
