"""Per-FedAvg: sites take gradients after a step of their own, so that the head is one to adapt."""

from fedtransfer.common.methods.method import UPDATE_LEAKS, Method, refused

PERFEDAVG = Method(
    name="perfedavg",
    title="Per-FedAvg",
    paper="arXiv 2002.07948, first order",
    options=("inner_rate",),
    leaks=f"{UPDATE_LEAKS}; of gradients after a step of the site's own",
    dp_image=refused(
        "an image of a step's first batch changes the gradients of all images of its second,"
        " and clipping each image's gradient does not bound that"
    ),
    adapts=True,
    refuses={"optimizer": "perfedavg is defined for plain SGD steps; leave it at sgd"},
)
