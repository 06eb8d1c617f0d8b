"""FedYogi: v ← v - (1 - β₂)Δ² · sign(v - Δ²).

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2.
"""

import numpy as np

from fedtransfer.server.strategies.adaptive import adaptive

FEDYOGI = adaptive(lambda v, squared, beta: v - (1 - beta) * squared * np.sign(v - squared))
