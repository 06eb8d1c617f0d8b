"""FedProx: FedAvg whose sites are held near the head that they were sent."""

from fedtransfer.common.methods.method import Method

FEDPROX = Method(name="fedprox", title="FedProx", paper="arXiv 1812.06127", options=("proximal",))
