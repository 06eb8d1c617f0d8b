"""SCAFFOLD at a site: its control variate, and the correction of its steps.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (arXiv
1910.06378),
Algorithm 1, option II: each of K local steps is y ← y - η (g(y) - c_k + c); then the site's variate
becomes c_k⁺ = c_k - c + (x - y) / (K η). It stays at the site, which sends the change c_k⁺ - c_k,
unweighted.
"""

import math

import numpy as np

from fedtransfer.common.head.head import Arrays


def local_steps(images: int, batch_size: int, epochs: int) -> int:
    """Return K, the number of steps of plain training."""
    return math.ceil(images / batch_size) * epochs


def correction(control: Arrays, local: Arrays) -> Arrays:
    """Return c - c_k, which is added to the gradient of each step."""
    return tuple(c - k for c, k in zip(control, local, strict=True))


def next_control(
    before: Arrays, after: Arrays, control: Arrays, local: Arrays, steps: int, rate: float
) -> tuple[Arrays, Arrays]:
    """Return the site's next variate c_k⁺, and its change: float32, computed in float64.

    Args:
        before, after: x and y, the head before and after training.
        control, local: c and c_k, shaped as the head.
        steps: K.
        rate: η, the learning rate of the round.
    """
    following = tuple(
        (k - c.astype(np.float64) + (x.astype(np.float64) - y) / (steps * rate)).astype(np.float32)
        for x, y, c, k in zip(before, after, control, local, strict=True)
    )
    return following, tuple(new - old for new, old in zip(following, local, strict=True))
