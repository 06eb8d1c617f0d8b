"""Per-FedAvg, first order.

Fallah et al. 2020, "Personalized Federated Learning: A Meta-Learning Approach" (arXiv 2002.07948):
what is minimised is the sites' loss after one gradient step of their own, Σ f_k(w - α ∇f_k(w)). A
local step takes the gradient on one batch where a step of α on another leads,
w ← w - β ∇f_k(w - α ∇f_k(w; D₁); D₂), and leaves out the second derivatives, the paper's "FO". That
is the site's part (``fedtransfer.client.training.trainer``); the server does as in FedAvg.
"""

from fedtransfer.server.strategies.fedavg import FEDAVG

PERFEDAVG = FEDAVG
