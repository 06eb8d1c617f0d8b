"""DP-SGD of one linear layer by this project on pooled images, as at one site: for ``compare.py``.

    python docs/opacus/ours.py features.npz > ours.jsonl

Noise multipliers are those that a run with ``--dp image`` finds for each ε. Batches and noise are
secret draws, so accuracies repeat in distribution only; the seed of a line is for Opacus.

The settings are of a grid on 5,000 held-out training images of CIFAR-10 (``--held-out 5000``, two
seeds): rate 0.05; 250, 500 or 1000 steps; clip 0.5 or 1; learning rate · clip 8, 16, 24 or 32.
These are within 0.3 points of the best at every ε. ε does not count what this choice reveals of the
images; Opacus gets the same.
"""

import argparse
import json
import time
from importlib.metadata import version

import numpy as np

from fedtransfer.client.training.private import train_privately
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.common.config.config import make_config
from fedtransfer.common.privacy.gaussian import secret_generator
from fedtransfer.common.privacy.guarantee import guarantee

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("features", help="of features.py")
parser.add_argument("--epsilon", type=float, nargs="+", default=[1, 2, 4, 8])
parser.add_argument("--delta", type=float, default=1e-5)
parser.add_argument(
    "--rate", type=float, default=0.05, help="chance of each image to be in a batch; 1 / rate is whole"
)
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--clip", type=float, default=0.5)
parser.add_argument("--learning-rate", type=float, default=48.0)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument(
    "--held-out", type=int, default=0, help="training images to score on, in place of the test images"
)
arguments = parser.parse_args()

data = np.load(arguments.features)
x, y, x_test, y_test = (data[key] for key in ("x_train", "y_train", "x_test", "y_test"))
if arguments.held_out:
    order = np.random.default_rng(0).permutation(len(y))
    train, held_out = order[arguments.held_out :], order[: arguments.held_out]
    x, y, x_test, y_test = x[train], y[train], x[held_out], y[held_out]
classes = int(y.max()) + 1
zeros = (np.zeros((x.shape[1], classes), np.float32), np.zeros(classes, np.float32))

for epsilon in arguments.epsilon:
    settings = {
        "dp": "image",
        "epsilon": epsilon,
        "delta": arguments.delta,
        "rounds": 1,
        "local-steps": arguments.steps,
        "image-rate": arguments.rate,
        "batch-size": round(arguments.rate * len(y)),
        "clip": arguments.clip,
        "learning-rate": arguments.learning_rate,
        "weighting": "uniform",
        "classes": "declared",
        "class-names": ",".join(map(str, range(classes))),
    }
    config = make_config(settings, "options")
    promised = guarantee(config)
    assert promised
    for seed in range(arguments.seeds):
        began = time.process_time()
        kernel, bias = train_privately(zeros, x, y, Recipe.from_config(config), promised, secret_generator())
        seconds = time.process_time() - began
        line = {
            "epsilon": epsilon,
            "delta": arguments.delta,
            "noise_multiplier": promised.noise_multiplier,
            "rate": arguments.rate,
            "steps": arguments.steps,
            "clip": arguments.clip,
            "learning_rate": arguments.learning_rate,
            "seed": seed,
            "accuracy": round(float(((x_test @ kernel + bias).argmax(1) == y_test).mean()), 4),
            "seconds": round(seconds, 2),
            "version": version("fedtransfer"),
        }
        print(json.dumps(line), flush=True)
