"""Fed3R: ridge regression, or linear discriminant analysis, of sums that travel once."""

from fedtransfer.common.methods import method
from fedtransfer.common.methods.method import Method, Verdict, heads, nothing

FED3R = Method(
    name="fed3r",
    title="Fed3R",
    paper="arXiv 2406.01116; --lda: 2503.06962, 2602.01186",
    options=("ridge", "lda"),
    sums="gram",
    sends="Gram matrix of features with a 1, in float64,"
    " and sums of features and numbers of images of each class",
    leaks=f"{method.SUMS_LEAK}; of a site with fewer images than features, the space that its features span;"
    " of a site with one image, its features exactly",
    down=nothing,
    up=lambda s: s.gram,
    before=(heads(method.RIDGES), nothing),
    masks=method.SUMS_ADD_UP,
    dp_site=method.NO_UPDATES,
    dp_image=Verdict(
        True,
        "Gaussian noise on both sums of clipped features, once, without counts or a 1;"
        " at 2,048 features it hides all but few directions, so with --project",
    ),
    note="--lda sends the same",
)
