"""Baselines on the same images, features, head and optimizer: pooled, local only, majority class.

Any other head can be scored in the same way, such as the federation's if sites report no scores.
Every head is scored twice: on the common test set (the test images of all sites), and on those of
each site. Epochs are chosen on validation images, as the federation's best round is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from fedtransfer.common.head.head import Arrays, head_spec, initial_head
from fedtransfer.common.head.metrics import cross_entropy
from fedtransfer.common.head.schedule import layers
from fedtransfer.common.seeds import generator
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.common.wire.sums import one_shot_sums
from fedtransfer.server.rounds.before import FACTORS
from fedtransfer.server.strategies import ONE_SHOT_HEADS
from fedtransfer.simulations.scoring.scores import Evaluation

_LOCAL_SITES = 50  # the most sites that train alone
Split = tuple[NDArray[np.float32], NDArray[np.int64]]
Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # features (n, d) → probabilities (n, C)


@dataclass(frozen=True)
class Score:
    """The scores of a head.

    Attributes:
        measures: every score on the common test set, as ``Evaluation.measures``.
        site_accuracy: site → accuracy on its test images; sites without any are left out.
    """

    measures: Mapping[str, float]
    site_accuracy: Mapping[str, float]

    @property
    def common(self) -> float:
        """Accuracy on the common test set."""
        return self.measures["accuracy"]

    @property
    def site_mean(self) -> float:
        """Mean over sites of the accuracy on their test images."""
        return float(np.mean(list(self.site_accuracy.values()))) if self.site_accuracy else float("nan")

    @property
    def site_worst(self) -> float:
        """Accuracy at the worst site."""
        return min(self.site_accuracy.values(), default=float("nan"))

    @property
    def summary(self) -> dict[str, Any]:
        """The entries of ``summary.json``."""
        return {
            "accuracy": self.common,
            "balanced_accuracy": self.measures["balanced_accuracy"],
            "loss": self.measures["nll"],
            "mean_site_accuracy": self.site_mean,
            "worst_site_accuracy": self.site_worst,
            "site_accuracy": dict(self.site_accuracy),
        }

    @property
    def record(self) -> dict[str, Any]:
        """The entries of a benchmark's ``baselines.json`` and ``measured.json``."""
        return {"measures": dict(self.measures), "own": dict(self.site_accuracy)}


@dataclass(frozen=True)
class Baselines:
    """Scores of the baselines.

    Attributes:
        pooled: one head on all data.
        local: site → its head, trained there alone.
        majority: the most frequent class of all data.
        local_majority: site → its most frequent class.
    """

    pooled: Score
    local: dict[str, Score]
    majority: Score
    local_majority: dict[str, Score]

    @property
    def summary(self) -> dict[str, Any]:
        """The entries of ``summary.json``."""
        local, local_majority = self.local.values(), self.local_majority.values()
        at_sites = [score.site_mean for score in local if score.site_accuracy]
        majorities = [score.site_mean for score in local_majority if score.site_accuracy]
        return {
            "baselines": {
                "pooled": self.pooled.common,
                "local_mean": sum(score.common for score in local) / len(local),
                "local_worst": min(score.common for score in local),
                "majority": self.majority.common,
            },
            "baselines_on_own_test_images": {
                "pooled": self.pooled.site_mean,
                "pooled_worst": self.pooled.site_worst,
                "local_mean": sum(at_sites) / len(at_sites) if at_sites else float("nan"),
                "local_worst": min(at_sites, default=float("nan")),
                "local": {name: score.site_mean for name, score in self.local.items() if score.site_accuracy},
                "majority": self.majority.site_mean,
                "local_majority": sum(majorities) / max(1, len(at_sites)),
            },
            "baselines_local_sites": len(local),
        }


def run_baselines(
    config: RunConfig,
    sites: Mapping[str, SiteData],
    classes: tuple[str, ...],
    moments: Moments | None,
    progress: Callable[[int, int], None],
) -> Baselines:
    """Train and score all baselines.

    Pooled and local heads train for the epochs of a site in all rounds, with the same head,
    optimizer and batch size; the epoch with the lowest validation loss counts. If there are more
    than 50 sites, a random sample of those with training images trains alone. Features are those of
    the federation, standardised by its ``moments`` if there are any.
    """
    able = [name for name, site in sorted(sites.items()) if site.images("train")]
    sample = generator(config.seed, "local baseline").permutation(able)[:_LOCAL_SITES]
    alone = sorted(map(str, sample))
    layer = layers(config)[-1]
    test = {name: site.data("test", classes, moments, layer) for name, site in sites.items()}
    common = _join(test.values())
    spec = head_spec(config, configured_backbone(config), len(classes), layer)
    steps = iter(range(len(alone) + 2))

    def score(predict: Predict, names: Sequence[str]) -> Score:
        return _score(predict, common, {name: test[name] for name in names})

    def train_and_score(t: Trainer, names: Sequence[str], key: str) -> Score:
        progress(next(steps), len(alone) + 1)
        splits = ("train", "validation")
        parts = [[sites[name].data(split, classes, moments, layer) for name in names] for split in splits]
        train, validation = (_join(part) for part in parts)
        head = train_alone(t, config, initial_head(spec, config.seed), train, validation, key)
        return score(lambda x: t.predict(head, x), names)

    def majority(names: Sequence[str]) -> Score:
        numbers = np.concatenate([sites[name].numbers("train", classes) for name in names])
        shares = np.bincount(numbers, minlength=len(classes)) / max(1, len(numbers))
        return score(lambda x: np.tile(shares.astype(np.float32), (len(x), 1)), names)

    everyone = sorted(sites)
    with trainer(spec, Recipe.plain(config)) as t:
        pooled = train_and_score(t, everyone, "pooled")
        local = {name: train_and_score(t, [name], name) for name in alone}
        progress(next(steps), len(alone) + 1)
    return Baselines(pooled, local, majority(everyone), {name: majority([name]) for name in alone})


def pooled_one_shot(
    config: RunConfig, sites: Mapping[str, SiteData], classes: tuple[str, ...], moments: Moments | None
) -> dict[str, Score]:
    """Return the scores of ridge regression, nearest class means and LDA on pooled data.

    They are ``fed3r``, ``fedncm`` and ``fed3r --lda`` for one site with all images, without noise.
    The loss on all validation images chooses λ and the factor on the class scores.
    """
    train, validation, test = (
        _join(site.data(split, classes, moments) for site in sites.values())
        for split in ("train", "validation", "test")
    )
    test_at = {name: site.data("test", classes, moments) for name, site in sorted(sites.items())}
    scores = {}
    for name, chosen in (
        ("ridge", RunConfig(strategy="fed3r", ridge=config.ridge)),
        ("NCM", RunConfig(strategy="fedncm")),
        ("LDA", RunConfig(strategy="fed3r", ridge=config.ridge, lda=True)),
    ):
        arrays = site_sums(one_shot_sums(chosen), *train, len(classes))
        heads = ONE_SHOT_HEADS[chosen.strategy].solve([Sums(0, "", "", len(train[1]), arrays)], chosen)
        candidates = [(kernel * by, bias * by) for kernel, bias in heads.values() for by in FACTORS]
        best = min(candidates, key=lambda head: cross_entropy(_linear(head, validation[0]), validation[1]))
        scores[name] = _score(partial(_linear, best), test, test_at)
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
    """Score a head on a split of all sites' images, which only a simulation has in one place.

    The head begins at a ``layer`` of the backbone; ``sites`` are those that took part, and their
    features are standardised by the federation's ``moments``, if there are any.
    """
    spec = head_spec(config, configured_backbone(config), len(classes), layer)
    everyone, at_sites = Evaluation.of(np.zeros((0, len(classes)), np.float32), np.zeros(0, np.int64)), {}
    with trainer(spec, Recipe.plain(config)) as t:
        for name, site in sorted(sites.items()):
            x, y = site.data(split, classes, moments, layer)
            if len(y):
                evaluation = Evaluation.of(t.predict(head, x), y)
                everyone, at_sites[name] = everyone + evaluation, evaluation.measures["accuracy"]
    return Score(everyone.measures, at_sites)


def _score(predict: Predict, common: Split, at_sites: Mapping[str, Split]) -> Score:
    tested = {name: (x, y) for name, (x, y) in at_sites.items() if len(y)}
    accuracy = {name: float(np.mean(predict(x).argmax(1) == y)) for name, (x, y) in tested.items()}
    return Score(Evaluation.of(predict(common[0]), common[1]).measures, accuracy)


def _linear(head: Arrays, x: NDArray[np.float32]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = softmax(x @ head[0] + head[1], axis=1)
    return probabilities


def _join(parts: Iterable[Split]) -> Split:
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)
