"""FedAvg in plain NumPy: the slow, readable twin of what ``ft.simulate`` computes.

Both begin with the same features and draw the same batches, so they end with the same head, to
rounding: ``ft.simulate`` trains in native code, which adds numbers up in another order.
"""

import numpy as np

import fedtransfer as ft
from fedtransfer.common.seeds import generator
from fedtransfer.simulations.data.features import prepare_sites
from fedtransfer.simulations.data.sites import load


def federate(config, sites, classes):
    """Return the head after all rounds: weights (d, C) and bias (C,), float32.

    Args:
        config: rounds, rates, batch size and seed.
        sites: site → features (n, d) float32 and class numbers (n,).
        classes: C.
    """
    width = next(iter(sites.values()))[0].shape[1]
    head = [np.zeros((width, classes), np.float32), np.zeros(classes, np.float32)]
    velocity = [np.zeros(array.shape) for array in head]
    for number in range(1, config.rounds + 1):
        total, images = [np.zeros(array.shape) for array in head], 0
        for name, (x, y) in sorted(sites.items()):
            trained = train_locally(
                head, x, y, config, generator(config.seed, "local training", number, name)
            )
            for k in range(2):  # a site sends its images times its change of the head, as float32
                total[k] += (len(y) * (trained[k].astype(np.float64) - head[k])).astype(np.float32)
            images += len(y)
        for k in range(2):
            velocity[k] = config.server_momentum * velocity[k] + total[k] / images
            head[k] = (head[k] + config.server_learning_rate * velocity[k]).astype(np.float32)
    return head


def train_locally(head, x, y, config, rng):
    """Return the head after one site's epochs of plain SGD on the mean cross-entropy of batches."""
    weights, bias = head[0].T.copy(), head[1].copy()
    for _ in range(config.local_epochs):
        order = rng.permutation(len(y))
        for start in range(0, len(y), config.batch_size):
            rows = order[start : start + config.batch_size]
            slope = softmax(x[rows] @ weights.T + bias)
            slope[np.arange(len(rows)), y[rows]] -= 1
            slope *= np.float32(config.learning_rate) / np.float32(len(rows))
            weights -= slope.T @ x[rows]
            bias -= slope.sum(0)
    return np.ascontiguousarray(weights.T), bias


def softmax(scores):
    """Return probabilities (n, C) of scores (n, C)."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


if __name__ == "__main__":
    run = ft.simulate(sites=3, rounds=5, seed=1, baselines=False, models=False)

    data = load(run.config)
    features = prepare_sites(data)
    sites = {name: features.sites[name].data("train", run.classes) for name in data.sites}
    weights, bias = federate(run.config, sites, len(run.classes))

    with np.load(run.folder / "last-head.npz") as fast:
        same = np.allclose(weights, fast["array_0"], rtol=0, atol=1e-5)
        same = same and np.allclose(bias, fast["array_1"], rtol=0, atol=1e-5)
    print(f"the same head: {same}")
