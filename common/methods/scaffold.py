"""SCAFFOLD: sites correct gradients by control variates, which they keep from round to round."""

from fedtransfer.common.methods.method import UPDATE_LEAKS, Method, Verdict, heads, refused

_SECOND_RELEASE = refused("its variates would be a second release in each round")

SCAFFOLD = Method(
    name="scaffold",
    title="SCAFFOLD",
    paper="arXiv 1910.06378",
    sends="n · (change of the head), n, change of its control variate (not weighted)",
    leaks=f"{UPDATE_LEAKS}; the variate is the site's mean gradient once more, over the whole round",
    down=heads(2),
    up=heads(2),
    masks=Verdict(True, "two sums"),
    dp_site=_SECOND_RELEASE,
    dp_image=_SECOND_RELEASE,
    control_variates=True,
    refuses={
        "optimizer": "scaffold is defined for plain SGD steps; leave it at sgd",
        "max_update_norm": "it bounds updates, but not the changes of scaffold's variates, which would"
        " pass it by; leave it at 0, or choose another strategy",
        "patience": "scaffold's variates divide by the number of steps, which early stopping at a site would"
        " leave open; leave it at 0",
        "unfreeze_at": "scaffold's variates have the shapes of the head they were made for;"
        " give --trainable instead",
    },
    note="a site keeps its variate on its own disk",
)
