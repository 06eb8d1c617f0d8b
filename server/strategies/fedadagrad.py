"""FedAdagrad: v ← v + Δ².

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2.
"""

from fedtransfer.server.strategies.adaptive import adaptive

FEDADAGRAD = adaptive(lambda v, squared, beta: v + squared)
