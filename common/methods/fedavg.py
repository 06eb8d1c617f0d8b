"""FedAvg: the mean of the sites' heads, with momentum at the server."""

from fedtransfer.common.methods.method import Method

FEDAVG = Method(name="fedavg", title="FedAvg", paper="arXiv 1602.05629; momentum: 1909.06335")
