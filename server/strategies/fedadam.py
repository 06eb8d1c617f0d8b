"""FedAdam: v ← β₂v + (1 - β₂)Δ².

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2.
"""

from fedtransfer.server.strategies.adaptive import adaptive

FEDADAM = adaptive(lambda v, squared, beta: beta * v + (1 - beta) * squared)
