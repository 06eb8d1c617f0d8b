"""Simulated sites that take no part in the federation, and adapt its head to themselves afterwards.

What meta-learning promises is not a head that is good everywhere, but one from which a new site gets to a good one with
few images. So each unseen site fine-tunes the global head on k images a class, k = 1, 5, 20, beside a head that begins
at zeros and is trained on the same images in the same order; both are scored on the site's own test images.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.personal import Split, adaptation_recipe
from fedtransfer.client.training.trainer import Features, Labels, Trainer
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import Progress
from fedtransfer.common.head.head import Arrays, HeadSpec, initial_head
from fedtransfer.common.seeds import generator

SHOTS = (1, 5, 20)
Thing = TypeVar("Thing")


def set_aside(sites: Mapping[str, Thing], config: RunConfig) -> tuple[dict[str, Thing], dict[str, Thing]]:
    """Divide the sites into those that take part and ``config.unseen_sites`` that do not, drawn by the seed.

    Raises:
        UserError: none would be left to take part.
    """
    if config.unseen_sites >= len(sites):
        raise UserError(
            f"unseen-sites {config.unseen_sites}: there are {len(sites)} sites, and at least one must take part; "
            f"lower --unseen-sites to {len(sites) - 1} or less, or have more sites"
        )
    order = generator(config.seed, "unseen sites").permutation(sorted(sites))
    unseen = set(map(str, order[: config.unseen_sites]))
    taking_part = {name: thing for name, thing in sites.items() if name not in unseen}
    return taking_part, {name: thing for name, thing in sites.items() if name in unseen}


def few_images(labels: Labels, shots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw ``shots`` images of each class, or all where there are fewer; return their numbers in ascending order.

    With a generator in the same state, those of fewer shots are among those of more.
    """
    order = rng.permutation(len(labels))
    chosen = [order[labels[order] == c][:shots] for c in np.unique(labels)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def adapt_unseen(
    config: RunConfig, spec: HeadSpec, head: Arrays, sites: Mapping[str, Mapping[str, Split]], progress: Progress
) -> dict[str, Any]:
    """Adapt the global head at each unseen site; return what ``summary.json`` says of it.

    Both heads train for ``config.adaptation_epochs``, at least one, as ``fedtransfer.client.training.personal.adaptation_recipe`` says; there
    is no validation, since so few images leave none to spare. Accuracies and shares are over the sites that have test
    images; NaN where none has.

    Args:
        config: the run's settings.
        spec: what heads look like.
        head: the global head.
        sites: unseen site → ``train`` and ``test`` → features (n, d) and class numbers (n,).
        progress: told (done, total) of the sites.
    """
    starts = (head, initial_head(spec, config.seed))
    epochs = max(1, config.adaptation_epochs)
    scored = [name for name, data in sorted(sites.items()) if len(data["test"][1])]
    images = np.zeros((len(scored), len(SHOTS)), np.int64)
    before = np.zeros(len(scored))
    after = np.zeros((len(scored), len(SHOTS), len(starts)))
    with trainer(spec, adaptation_recipe(config)) as t:
        for i, name in enumerate(scored):
            progress(i, len(scored))
            (x, y), test = sites[name]["train"], sites[name]["test"]
            before[i] = _accuracy(t, head, *test)
            for j, shots in enumerate(SHOTS):
                few = few_images(y, shots, generator(config.seed, "images to adapt with", name))
                images[i, j] = len(few)
                for s, start in enumerate(starts):
                    rng = generator(config.seed, "adaptation", shots, name)
                    after[i, j, s] = _accuracy(t, t.train(start, x[few], y[few], rng, epochs), *test)
    progress(len(scored), len(scored))
    return {
        "names": sorted(sites),
        "sites": len(scored),
        "sites_without_test_images": len(sites) - len(scored),
        "epochs": epochs,
        "global": _mean(before),
        "adapted": {
            str(shots): {
                "images": _mean(images[:, j]),
                "accuracy": _mean(after[:, j, 0]),
                "from_scratch": _mean(after[:, j, 1]),
                "got_worse": _mean(after[:, j, 0] < before),
            }
            for j, shots in enumerate(SHOTS)
        },
    }


def _accuracy(t: Trainer, head: Arrays, x: Features, y: Labels) -> float:
    return float(np.mean(t.predict(head, x).argmax(1) == y))


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
