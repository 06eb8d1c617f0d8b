"""SCAFFOLD at a site.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (arXiv 1910.06378),
Algorithm 1, option II: each of K local steps is y ← y - η (g(y) - c_k + c); then the site's variate becomes
c_k⁺ = c_k - c + (x - y) / (K η). It stays at the site; the change c_k⁺ - c_k is sent, unweighted.
"""

import math

import numpy as np

from fedtransfer.common.head.head import Arrays


def local_steps(images: int, batch_size: int, epochs: int) -> int:
    """Return K, the steps of plain training on so many images."""
    return math.ceil(images / batch_size) * epochs


def correction(control: Arrays, own: Arrays) -> Arrays:
    """Return c - c_k, which is added to the gradient of each step."""
    return tuple(c - k for c, k in zip(control, own, strict=True))


def next_control(
    before: Arrays, after: Arrays, control: Arrays, own: Arrays, steps: int, rate: float
) -> tuple[Arrays, Arrays]:
    """Return the site's next variate, c_k⁺, and its change: float32, computed in float64.

    Args:
        before, after: x and y, the head before and after training.
        control, own: c and c_k, shaped as the head.
        steps: K.
        rate: η, the learning rate that held.
    """
    following = tuple(
        (k - c.astype(np.float64) + (x.astype(np.float64) - y) / (steps * rate)).astype(np.float32)
        for x, y, c, k in zip(before, after, control, own, strict=True)
    )
    return following, tuple(new - old for new, old in zip(following, own, strict=True))
