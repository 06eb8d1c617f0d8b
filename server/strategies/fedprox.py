"""FedProx.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (arXiv 1812.06127): a site's loss
gets μ/2 · ‖w - w_t‖², which holds it near the head w_t that it was sent. That is the site's part
(``fedtransfer.client.training.trainer``); the server does what it does in FedAvg.
"""

from fedtransfer.server.strategies.fedavg import FEDAVG

FEDPROX = FEDAVG
