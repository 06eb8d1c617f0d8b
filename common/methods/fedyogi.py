"""FedYogi: Yogi at the server."""

from fedtransfer.common.methods.method import Method

FEDYOGI = Method(
    name="fedyogi", title="FedYogi", paper="arXiv 2003.00295", options=("second_momentum", "adaptivity")
)
