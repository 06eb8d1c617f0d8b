"""DP-SGD of one linear layer by this project on pooled images, as one site trains; lines for ``compare.py``.

    python docs/opacus/ours.py features.npz > ours.jsonl

Noise multipliers are those that ``common.privacy.accounting`` finds for each ε. Batches and noise are secret draws, so
accuracies repeat in distribution only; the seed of a line is for Opacus.
"""

import argparse
import json
import time
from importlib.metadata import version

import numpy as np

from client.private_trainer import train_privately
from client.trainer import Recipe
from common.privacy.accounting import Release, noise_for
from common.privacy.randomness import secret_generator

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("features", help="of features.py")
parser.add_argument("--epsilon", type=float, nargs="+", default=[1, 2, 4, 8])
parser.add_argument("--delta", type=float, default=1e-5)
parser.add_argument("--rate", type=float, default=0.05, help="chance of each image to be in a batch; 1 / rate is whole")
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--clip", type=float, default=0.5)
parser.add_argument("--learning-rate", type=float, default=48.0)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--held-out", type=int, default=0, help="score on so many training images, kept out, not on test")
asked = parser.parse_args()

data = np.load(asked.features)
x, y, x_test, y_test = (data[key] for key in ("x_train", "y_train", "x_test", "y_test"))
if asked.held_out:
    order = np.random.default_rng(0).permutation(len(y))
    kept, out = order[asked.held_out :], order[: asked.held_out]
    x, y, x_test, y_test = x[kept], y[kept], x[out], y[out]
zeros = (np.zeros((x.shape[1], y.max() + 1), np.float32), np.zeros(y.max() + 1, np.float32))
recipe = Recipe("sgd", asked.learning_rate, round(asked.rate * len(y)), epochs=0)

for epsilon in asked.epsilon:
    noise = noise_for(lambda multiplier: {Release(asked.rate, multiplier): asked.steps}, epsilon, asked.delta)
    for seed in range(asked.seeds):
        began = time.perf_counter()
        kernel, bias = train_privately(
            zeros,
            x,
            y,
            recipe,
            asked.steps,
            secret_generator(),
            image_rate=asked.rate,
            clip=asked.clip,
            noise_multiplier=noise,
        )
        seconds = time.perf_counter() - began
        line = {
            "epsilon": epsilon,
            "delta": asked.delta,
            "noise_multiplier": noise,
            "rate": asked.rate,
            "steps": asked.steps,
            "clip": asked.clip,
            "learning_rate": asked.learning_rate,
            "seed": seed,
            "accuracy": round(float(((x_test @ kernel + bias).argmax(1) == y_test).mean()), 4),
            "seconds": round(seconds, 2),
            "version": version("fedtransfer"),
        }
        print(json.dumps(line), flush=True)
