"""FedCOF: covariances from how the sites' class means scatter, of sums that travel once."""

from fedtransfer.common.methods.method import RIDGES, SUMS_LEAK, Method, heads, nothing, refused

_SCATTER = "it takes covariances from the scatter of single sites' class means"
_DROWNED = refused(f"{_SCATTER}, and noise that hides these is all that would be left of it")

FEDCOF = Method(
    name="fedcof",
    title="FedCOF",
    paper="arXiv 2412.14326",
    options=("ridge",),
    sums="classes",
    sends="sum of features and number of images of each class",
    leaks=SUMS_LEAK,
    down=nothing,
    up=lambda s: s.class_sums,
    before=(heads(RIDGES), nothing),
    masks=refused(f"{_SCATTER}, which masks hide"),
    dp_site=_DROWNED,
    dp_image=_DROWNED,
)
