"""FedOpt: any Keras optimizer at the server."""

from fedtransfer.common.methods.method import Method

FEDOPT = Method(
    name="fedopt",
    title="FedOpt",
    paper="arXiv 2003.00295, with the optimizers of Keras",
    options=("server_optimizer",),
    refuses={"server_momentum": "fedopt has none; --server-optimizer momentum has it"},
)
