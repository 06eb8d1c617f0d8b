"""FedNCM: nearest class means, of sums that travel once."""

from fedtransfer.common.methods.method import (
    NO_UPDATES,
    SUMS_ADD_UP,
    SUMS_LEAK,
    Method,
    Verdict,
    heads,
    nothing,
)

FEDNCM = Method(
    name="fedncm",
    title="FedNCM",
    paper="arXiv 2306.03937",
    sums="classes",
    sends="sum of features and number of images of each class",
    leaks=SUMS_LEAK,
    down=nothing,
    up=lambda s: s.class_sums,
    before=(heads(1), nothing),
    masks=SUMS_ADD_UP,
    dp_site=NO_UPDATES,
    dp_image=Verdict(
        True, "Gaussian noise on sums of clipped features, once; no counts are sent, no heads tried"
    ),
)
