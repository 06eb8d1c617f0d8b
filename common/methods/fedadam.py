"""FedAdam: Adam at the server."""

from fedtransfer.common.methods.method import Method

FEDADAM = Method(
    name="fedadam", title="FedAdam", paper="arXiv 2003.00295", options=("second_momentum", "adaptivity")
)
