"""FedAdagrad: Adagrad at the server."""

from fedtransfer.common.methods.method import Method

FEDADAGRAD = Method(name="fedadagrad", title="FedAdagrad", paper="arXiv 2003.00295", options=("adaptivity",))
