"""FedOpt: Keras' Adam at the server."""

from fedtransfer.common.methods.method import Method

FEDOPT = Method(
    name="fedopt",
    title="FedOpt",
    paper="arXiv 2003.00295, with the Adam of Keras",
    refuses={"server_momentum": "its Adam has the first momentum of Keras, 0.9; fedadam takes another"},
)
