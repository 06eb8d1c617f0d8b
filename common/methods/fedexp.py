"""FedExP: FedAvg whose server step is the longer, the less the sites' updates point one way."""

from fedtransfer.common.methods.method import Method, refused

_NORMS = refused("its step follows from the norm of every site's update, which a total does not show")

FEDEXP = Method(
    name="fedexp",
    title="FedExP",
    paper="arXiv 2301.09604",
    masks=_NORMS,
    dp_site=_NORMS,
    dp_image=refused(
        "noise lengthens updates more than their mean, so steps would grow with the number of sites"
    ),
    refuses={
        "server_learning_rate": "fedexp finds the length of its step itself; leave it at its default",
        "server_momentum": "fedexp has none; --strategy fedavg has it",
    },
)
