"""Honest baselines on the same images, features, head and optimizer: pooled, local only, majority class; and the
federation's own head, measured as they are, where sites keep to themselves how it does.

Every method is scored on the same two things: the common test set (the test images of all sites together), and each
site's own test images. Epochs are chosen on validation images, as the federation's best round is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.personal import plain_recipe, train_alone
from client.site import Site
from client.trainer import Trainer, trainer
from common.backbone import configured_backbone
from common.config import RunConfig
from common.depth import layers
from common.feature_map import Moments
from common.head import Arrays, initial_head
from common.metrics import Counts
from common.seeds import generator
from common.spec import head_spec

LOCAL_SITES = 50  # at most as many sites train alone
Split = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Score:
    """Accuracy on the common test set, and on each site's own test images (sites without any are left out)."""

    common: float
    own: dict[str, float]

    @property
    def own_mean(self) -> float:
        """Mean over sites of the accuracy on their own test images."""
        return float(np.mean(list(self.own.values()))) if self.own else float("nan")

    @property
    def own_worst(self) -> float:
        """Accuracy at the worst site."""
        return min(self.own.values(), default=float("nan"))


@dataclass(frozen=True)
class Baselines:
    """Scores of the baselines; those of a site alone by site, scored on the common test set and at the site itself."""

    pooled: Score
    local: dict[str, Score]
    majority: Score
    local_majority: dict[str, Score]

    @property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of them."""
        local, local_majority = self.local.values(), self.local_majority.values()
        own = [score.own_mean for score in local if score.own]
        return {
            "baselines": {
                "pooled": self.pooled.common,
                "local_mean": sum(score.common for score in local) / len(local),
                "local_worst": min(score.common for score in local),
                "majority": self.majority.common,
            },
            "baselines_on_own_test_images": {
                "pooled": self.pooled.own_mean,
                "pooled_worst": self.pooled.own_worst,
                "local_mean": sum(own) / len(own) if own else float("nan"),
                "local_worst": min(own, default=float("nan")),
                "majority": self.majority.own_mean,
                "local_majority": sum(score.own_mean for score in local_majority if score.own) / max(1, len(own)),
            },
            "baselines_local_sites": len(local),
        }


def run_baselines(
    config: RunConfig,
    sites: dict[str, Site],
    classes: tuple[str, ...],
    moments: Moments | None,
    progress: Callable[[int, int], None],
    local_sites: int = LOCAL_SITES,
) -> Baselines:
    """Train and score all baselines.

    Pooled and local heads train for as many epochs as the federation's sites do over all rounds, on the same head,
    optimizer and batch size, and keep the epoch with the lowest validation loss. With more than ``local_sites`` sites,
    local training is measured on that many, drawn at random. Features are the federation's, standardised by its ``moments``
    where they are standardised so.
    """
    drawn = generator(config.seed, "local baseline").permutation(sorted(sites))[:local_sites]
    alone = sorted(map(str, drawn))
    layer = layers(config)[-1]
    test = {name: site.data("test", classes, moments, layer) for name, site in sites.items()}
    common = _join(test.values())
    spec = head_spec(config, configured_backbone(config), len(classes), layer)
    steps = iter(range(len(alone) + 2))

    def score(predict: Callable[[NDArray[np.float32]], NDArray[np.int64]], names: Sequence[str]) -> Score:
        own = {name: float(np.mean(predict(test[name][0]) == test[name][1])) for name in names if len(test[name][1])}
        return Score(float(np.mean(predict(common[0]) == common[1])), own)

    def trained(t: Trainer, names: Sequence[str], key: str) -> Score:
        progress(next(steps), len(alone) + 1)
        train, validation = (
            _join([sites[name].data(split, classes, moments, layer) for name in names])
            for split in ("train", "validation")
        )
        head = train_alone(t, config, initial_head(spec, config.seed), train, validation, key)
        return score(lambda x: t.predict(head, x).argmax(1), names)

    def majority(names: Sequence[str]) -> Score:
        winner = np.bincount(np.concatenate([sites[name].numbers("train", classes) for name in names])).argmax()
        return score(lambda x: np.full(len(x), winner), names)

    everyone = sorted(sites)
    with trainer(spec, plain_recipe(config)) as t:
        pooled = trained(t, everyone, "pooled")
        local = {name: trained(t, [name], name) for name in alone}
        progress(next(steps), len(alone) + 1)
    return Baselines(pooled, local, majority(everyone), {name: majority([name]) for name in alone})


def measure(
    config: RunConfig,
    sites: dict[str, Site],
    classes: tuple[str, ...],
    moments: Moments | None,
    head: Arrays,
    layer: str,
) -> dict[str, Any]:
    """Score a head on all sites' test images, which only a simulation has in one place.

    Args:
        config: the run's.
        sites: those that took part, with the images that they kept to themselves.
        classes: the head's.
        moments: the federation's, where features are standardised by them.
        head: its arrays.
        layer: of the backbone, where they begin.
    """
    spec = head_spec(config, configured_backbone(config), len(classes), layer)
    with trainer(spec, plain_recipe(config)) as t:
        own = {}
        for name, site in sorted(sites.items()):
            x, y = site.data("test", classes, moments, layer)
            own[name] = Counts.of(t.predict(head, x), y)
    counts = sum(own.values(), Counts.empty(len(classes)))
    accuracy = {name: site.accuracy for name, site in own.items() if site.total}
    score = Score(counts.accuracy, accuracy)
    return {
        "accuracy": score.common,
        "balanced_accuracy": counts.macro()["macro_recall"],
        "loss": counts.mean_loss,
        "mean_site_accuracy": score.own_mean,
        "worst_site_accuracy": score.own_worst,
        "site_accuracy": accuracy,
    }


def _join(parts: Iterable[Split]) -> Split:
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)
