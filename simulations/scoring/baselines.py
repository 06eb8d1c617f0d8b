"""Honest baselines on the same images, features, head and optimizer: pooled, local only, majority class; and any head,
measured as they are, such as the federation's own where sites keep to themselves how it does.

Every method is scored on the same two things: the common test set (the test images of all sites together), and each
site's own test images. Epochs are chosen on validation images, as the federation's best round is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fedtransfer.client.data import SiteData
from fedtransfer.client.training.personal import train_alone
from fedtransfer.client.training.statistics import site_sums
from fedtransfer.client.training.trainer import Recipe, Trainer
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.features.feature_map import Moments
from fedtransfer.common.head.depth import layers
from fedtransfer.common.head.head import Arrays, initial_head
from fedtransfer.common.head.metrics import cross_entropy
from fedtransfer.common.head.spec import head_spec
from fedtransfer.common.seeds import generator
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.common.wire.sums import one_shot_sums
from fedtransfer.server.rounds.before import FACTORS
from fedtransfer.server.strategies import ONE_SHOT_HEADS
from fedtransfer.simulations.scoring.scores import Evaluation

LOCAL_SITES = 50  # at most as many sites train alone
Split = tuple[NDArray[np.float32], NDArray[np.int64]]
Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # features (n, d) → probabilities (n, C)


@dataclass(frozen=True)
class Score:
    """Every score on the common test set (``Evaluation.measures``), and the accuracy on each site's own test images (sites
    without any are left out).
    """

    measures: Mapping[str, float]
    own: Mapping[str, float]

    @property
    def common(self) -> float:
        """Accuracy on the common test set."""
        return self.measures["accuracy"]

    @property
    def own_mean(self) -> float:
        """Mean over sites of the accuracy on their own test images."""
        return float(np.mean(list(self.own.values()))) if self.own else float("nan")

    @property
    def own_worst(self) -> float:
        """Accuracy at the worst site."""
        return min(self.own.values(), default=float("nan"))

    @property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of a head that was measured so."""
        return {
            "accuracy": self.common,
            "balanced_accuracy": self.measures["balanced_accuracy"],
            "loss": self.measures["nll"],
            "mean_site_accuracy": self.own_mean,
            "worst_site_accuracy": self.own_worst,
            "site_accuracy": dict(self.own),
        }


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
                "local": {name: score.own_mean for name, score in self.local.items() if score.own},
                "majority": self.majority.own_mean,
                "local_majority": sum(score.own_mean for score in local_majority if score.own) / max(1, len(own)),
            },
            "baselines_local_sites": len(local),
        }


def run_baselines(
    config: RunConfig,
    sites: Mapping[str, SiteData],
    classes: tuple[str, ...],
    moments: Moments | None,
    progress: Callable[[int, int], None],
    local_sites: int = LOCAL_SITES,
) -> Baselines:
    """Train and score all baselines.

    Pooled and local heads train for as many epochs as the federation's sites do over all rounds, on the same head,
    optimizer and batch size, and keep the epoch with the lowest validation loss. With more than ``local_sites`` sites,
    local training is measured on that many, drawn at random from those with training images. Features are the
    federation's, standardised by its ``moments`` where they are standardised so.
    """
    able = [name for name, site in sorted(sites.items()) if site.images("train")]
    drawn = generator(config.seed, "local baseline").permutation(able)[:local_sites]
    alone = sorted(map(str, drawn))
    layer = layers(config)[-1]
    test = {name: site.data("test", classes, moments, layer) for name, site in sites.items()}
    common = _join(test.values())
    spec = head_spec(config, configured_backbone(config), len(classes), layer)
    steps = iter(range(len(alone) + 2))

    def score(predict: Predict, names: Sequence[str]) -> Score:
        own = {name: _accuracy(predict(x), y) for name in names for x, y in [test[name]] if len(y)}
        return Score(Evaluation.of(predict(common[0]), common[1]).measures, own)

    def trained(t: Trainer, names: Sequence[str], key: str) -> Score:
        progress(next(steps), len(alone) + 1)
        train, validation = (
            _join([sites[name].data(split, classes, moments, layer) for name in names])
            for split in ("train", "validation")
        )
        head = train_alone(t, config, initial_head(spec, config.seed), train, validation, key)
        return score(lambda x: t.predict(head, x), names)

    def majority(names: Sequence[str]) -> Score:
        numbers = np.concatenate([sites[name].numbers("train", classes) for name in names])
        shares = np.bincount(numbers, minlength=len(classes)) / max(1, len(numbers))
        return score(lambda x: np.tile(shares.astype(np.float32), (len(x), 1)), names)

    everyone = sorted(sites)
    with trainer(spec, Recipe.plain(config)) as t:
        pooled = trained(t, everyone, "pooled")
        local = {name: trained(t, [name], name) for name in alone}
        progress(next(steps), len(alone) + 1)
    return Baselines(pooled, local, majority(everyone), {name: majority([name]) for name in alone})


def pooled_one_shot(
    config: RunConfig, sites: Mapping[str, SiteData], classes: tuple[str, ...], moments: Moments | None
) -> dict[str, Score]:
    """Score ridge regression, nearest class means and LDA of all data in one place, by name.

    They are ``fed3r``, ``fedncm`` and ``fed3r --lda`` of one site that has all images, without noise: λ and the factor on the
    class scores are chosen by the loss on all validation images.
    """
    train, validation, test = (
        _join(site.data(split, classes, moments) for site in sites.values())
        for split in ("train", "validation", "test")
    )
    own = {name: data for name, site in sorted(sites.items()) if len((data := site.data("test", classes, moments))[1])}
    scores = {}
    for name, chosen in (
        ("ridge", RunConfig(strategy="fed3r", ridge=config.ridge)),
        ("NCM", RunConfig(strategy="fedncm")),
        ("LDA", RunConfig(strategy="fed3r", ridge=config.ridge, lda=True)),
    ):
        arrays = site_sums(one_shot_sums(chosen), *train, len(classes))
        heads = ONE_SHOT_HEADS[chosen.strategy].solve([Sums(0, "", "", len(train[1]), arrays)], chosen)
        candidates = [(kernel * factor, bias * factor) for kernel, bias in heads.values() for factor in FACTORS]
        best = min(candidates, key=lambda head: cross_entropy(_linear(head, validation[0]), validation[1]))
        accuracy = {site: _accuracy(_linear(best, x), y) for site, (x, y) in own.items()}
        scores[name] = Score(Evaluation.of(_linear(best, test[0]), test[1]).measures, accuracy)
    return scores


def measure(
    config: RunConfig,
    sites: Mapping[str, SiteData],
    classes: tuple[str, ...],
    moments: Moments | None,
    head: Arrays,
    layer: str,
    split: str = "test",
) -> Score:
    """Score a head on all sites' images of a split, which only a simulation has in one place.

    Args:
        config: the run's.
        sites: those that took part, with the images that they kept to themselves.
        classes: the head's.
        moments: the federation's, where features are standardised by them.
        head: its arrays.
        layer: of the backbone, where they begin.
        split: ``validation`` or ``test``.
    """
    spec = head_spec(config, configured_backbone(config), len(classes), layer)
    everyone, own = Evaluation.of(np.zeros((0, len(classes)), np.float32), np.zeros(0, np.int64)), {}
    with trainer(spec, Recipe.plain(config)) as t:
        for name, site in sorted(sites.items()):
            x, y = site.data(split, classes, moments, layer)
            if len(y):
                evaluation = Evaluation.of(t.predict(head, x), y)
                everyone, own[name] = everyone + evaluation, evaluation.measures["accuracy"]
    return Score(everyone.measures, own)


def _accuracy(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float(np.mean(probabilities.argmax(1) == labels))


def _linear(head: Arrays, x: NDArray[np.float32]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = softmax(x @ head[0] + head[1], axis=1)
    return probabilities


def _join(parts: Iterable[Split]) -> Split:
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)
