"""``summary.json``: the scores of a federation, from summed counts, and those of personal heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.features.feature_map import Moments
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import PERSONAL_HEADS, Confusion, Description, Personal
from fedtransfer.server.rounds.progress import MOMENTS, Candidate, Progress
from fedtransfer.server.sites.federation import Federation

_UNKNOWN = float("nan")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a federation.

    The best head is that of the lowest validation loss; without validation images it is the last
    one. With partial participation it is the better of the last head and of the one with the lowest
    loss in its cohort, both scored by all sites.
    """

    best: Candidate
    progress: Progress  # after the last round
    federation: Federation
    confusion: dict[str, Confusion]  # site → closing scores of the best head
    undelivered: dict[str, str]  # site → why it did not receive the best head
    personal: Mapping[str, Any] = field(default_factory=dict)  # part of ``summary.json``, or empty
    privacy: Mapping[str, Any] = field(default_factory=dict)  # part of ``summary.json``, or empty
    public: tuple[Counts, NDArray[np.int64]] | None = None  # scores of the best head on public images
    total: Confusion | None = None  # under masks, the closing scores over all sites; ``confusion`` is empty

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the head's columns."""
        return self.federation.classes

    @property
    def moments(self) -> Moments | None:
        """Mean and deviation of the federation's features, if it standardises by them."""
        return self.progress.arrays.get(MOMENTS)


def summarise(
    config: RunConfig, backbone: Backbone, history: Sequence[Mapping[str, str]], left_out: Mapping[str, Any],
    outcome: Outcome, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Summarise the best head of a run, on the test images of the sites or on public images.

    Numbers that sites do not reveal are NaN or None. ``history`` has the rows of ``history.csv``,
    ``left_out`` how often each site was left out and why; ``seconds`` are those of the rounds in
    this process.
    """
    test, matrix = outcome.public or _site_scores(outcome)
    accuracies = {
        site: scores.test.accuracy for site, scores in outcome.confusion.items() if scores.test.total
    }
    federation, best = outcome.federation, outcome.best
    sites = federation.descriptions.values()
    counts = [] if federation.hidden else [images for site in sites for images in site.images.values()]
    splits = (
        dict(zip(("train", "validation", "test"), np.sum(counts, 0).tolist(), strict=True)) if counts else {}
    )
    trained = [row for row in history if row["phase"] == "train"]
    repeated = trained or [row for row in history if row["phase"] == "sums"]
    summary = {
        "accuracy": test.accuracy,
        **test.macro(),
        "scored_on": "public-data" if outcome.public else "sites" if test.total else None,
        "loss": test.mean_loss,
        "mean_site_accuracy": _mean([*accuracies.values()]),
        "worst_site_accuracy": min(accuracies.values(), default=_UNKNOWN),
        "site_accuracy": accuracies,
        "confusion_matrix": matrix.tolist() if test.total else None,
        "classes": list(outcome.classes),
        "classes_at_one_site": federation.held_by_one,
        "rounds": outcome.progress.round,
        "rounds_planned": config.training_rounds,
        "stopped_early": outcome.progress.round < config.training_rounds,
        "failed_attempts": sum(row["status"] != "ok" for row in trained),
        "best_round": best.round,
        "sites": len(federation.descriptions),
        "sites_absent": federation.absent,
        "sites_left_out": left_out,
        "sites_without_result": outcome.undelivered,
        "images": sum(splits.values()) if splits else None,
        "images_by_split": splits,
        "images_unreadable": None if federation.hidden else sum(site.unreadable for site in sites),
        "bytes_up_per_site_round": round(_mean([float(row["bytes_up_per_site"]) for row in repeated])),
        "bytes_down_per_site_round": round(_mean([float(row["bytes_down_per_site"]) for row in repeated])),
        "seconds": {"rounds": round(seconds, 3)},
        "backbone": {
            "name": backbone.name,
            "fingerprint": backbone.fingerprint,
            "resolution": backbone.resolution,
        },
        "seed": config.seed,
    }
    if outcome.progress.one_shot:
        summary["one_shot"] = {"head": config.one_shot, **outcome.progress.one_shot}
    if outcome.personal:
        summary["personal"] = dict(outcome.personal)
    if outcome.privacy:
        summary["privacy"] = dict(outcome.privacy)
    return summary


def _site_scores(outcome: Outcome) -> tuple[Counts, NDArray[np.int64]]:
    """Return counts and confusion matrix over the sites' test images; zeros if there are none."""
    classes, answers = len(outcome.classes), [outcome.total] if outcome.total else outcome.confusion.values()
    counts = sum((scores.test for scores in answers), Counts.empty(classes))
    return counts, sum((scores.matrix for scores in answers), np.zeros((classes, classes), np.int64))


def summarise_personal(
    answers: Mapping[str, Personal], descriptions: Mapping[str, Description], total: Personal | None = None
) -> dict[str, Any]:
    """Summarise the scores of each kind of head on the test images of its site.

    Args:
        answers: site → its counts.
        descriptions: site → its description, for all sites of the federation.
        total: under masks, the sum of the answers, which have no numbers themselves.

    Returns:
        For each kind, accuracy as ``mean`` over sites, of the ``worst`` site, and ``pooled`` over
        images. For fine-tuned and mixed heads, the shares of sites where they score worse than the
        global head and than the local head (Motley, arXiv 2206.09262). Sites without test images
        are only counted. A number over no sites, or by site under masks, is NaN.
    """
    scored = [] if total else [answer for _, answer in sorted(answers.items()) if answer.images]
    images = np.array([answer.images for answer in scored], np.int64)
    correct = np.array([answer.correct for answer in scored], np.int64).reshape(-1, len(PERSONAL_HEADS))
    everything = total.images if total else int(images.sum())
    summary: dict[str, Any] = {
        "sites": len(answers) if total else len(scored),
        "sites_without_test_images": _UNKNOWN if total else len(answers) - len(scored),
        "sites_without_answer": sorted(set(descriptions) - set(answers)),
        "images": everything,
        "share": total.share / len(answers) if total else _mean([answer.share for answer in scored]),
    }
    for kind, right, pooled in zip(
        PERSONAL_HEADS, correct.T, total.correct if total else correct.sum(0), strict=True
    ):
        accuracies = right / images
        summary[kind] = {
            "mean": _mean(accuracies),
            "worst": float(accuracies.min()) if scored else _UNKNOWN,
            "pooled": float(pooled / everything) if everything else _UNKNOWN,
        }
    for kind in ("fine_tuned", "mixed"):
        for rival in ("global", "local"):
            worse = correct[:, PERSONAL_HEADS.index(kind)] < correct[:, PERSONAL_HEADS.index(rival)]
            summary[kind][f"worse_than_{rival}"] = _mean(worse)
    return summary


def _mean(values: Sequence[float] | NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else _UNKNOWN
