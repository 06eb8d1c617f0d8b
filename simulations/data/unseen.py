"""Simulated sites that take no part in the federation, and adapt its head afterwards.

Meta-learning promises a head that a new site can adapt with few images, rather than one that is
good everywhere. So each unseen site fine-tunes the global head on k images a class, k = 1, 5, 20.
For comparison, it trains a head from zeros on the same images in the same order. Both heads are
scored on the site's test images.
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
Splits = Mapping[str, Split]


def set_aside(sites: Mapping[str, Thing], config: RunConfig) -> tuple[dict[str, Thing], dict[str, Thing]]:
    """Divide the sites into those that take part and ``config.unseen_sites`` that do not.

    Raises:
        UserError: no site would be left to take part.
    """
    aside, total = config.unseen_sites, len(sites)
    if aside >= total:
        raise UserError(
            f"unseen-sites {aside}: there are {total} sites, and at least one must take part; "
            f"lower --unseen-sites to {total - 1} or less, or raise the number of sites"
        )
    order = generator(config.seed, "unseen sites").permutation(sorted(sites))
    unseen = set(map(str, order[:aside]))
    taking_part = {name: thing for name, thing in sites.items() if name not in unseen}
    return taking_part, {name: thing for name, thing in sites.items() if name in unseen}


def few_images(labels: Labels, shots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw ``shots`` images of each class, or all if there are fewer; return sorted indices.

    With a generator in the same state, more shots include the images of fewer shots.
    """
    order = rng.permutation(len(labels))
    chosen = [order[labels[order] == c][:shots] for c in np.unique(labels)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def adapt_unseen(
    config: RunConfig, spec: HeadSpec, head: Arrays, sites: Mapping[str, Splits], progress: Progress
) -> dict[str, Any]:
    """Adapt the global head at each unseen site; return the entry of ``summary.json``.

    Both heads train for ``config.adaptation_epochs``, at least one, without validation, since there
    are so few images. Accuracies and shares are means over the sites with test images, NaN without
    any. ``sites`` has features (n, d) and class numbers (n,) of each one's ``train`` and ``test``.
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
    adapted = {
        str(shots): {
            "images": _mean(images[:, j]), "accuracy": _mean(after[:, j, 0]),
            "from_scratch": _mean(after[:, j, 1]), "got_worse": _mean(after[:, j, 0] < before),
        }
        for j, shots in enumerate(SHOTS)
    }  # fmt: skip
    return {
        "names": sorted(sites), "sites": len(scored), "sites_without_test_images": len(sites) - len(scored),
        "epochs": epochs, "global": _mean(before), "adapted": adapted,
    }  # fmt: skip


def _accuracy(t: Trainer, head: Arrays, x: Features, y: Labels) -> float:
    return float(np.mean(t.predict(head, x).argmax(1) == y))


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
