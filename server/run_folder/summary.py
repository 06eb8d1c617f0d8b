"""``summary.json``: the scores of a federation, computed from summed counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.metrics import Counts
from fedtransfer.server.run_folder.records import Outcome


def summarise(
    config: RunConfig,
    backbone: Backbone,
    history: Sequence[Mapping[str, str]],
    left_out: Mapping[str, Any],
    outcome: Outcome,
    seconds: float,
) -> dict[str, Any]:
    """Summarise the best head of a run, on the test images of the sites or on public images.

    Numbers that sites do not reveal are NaN or None.

    Args:
        config: the run's settings.
        backbone: the run's backbone.
        history: rows of ``history.csv``.
        left_out: site → how often it was left out, and why the last time.
        outcome: the run's outcome.
        seconds: wall time of the rounds in this process.
    """
    test, matrix = outcome.public or _site_scores(outcome)
    accuracies = {site: scores.test.accuracy for site, scores in outcome.confusion.items() if scores.test.total}
    splits, federation, best = _images(outcome), outcome.federation, outcome.best
    trained = [row for row in history if row["phase"] == "train"]
    repeated = trained or [row for row in history if row["phase"] == "sums"]
    summary = {
        "accuracy": test.accuracy,
        **test.macro(),
        "scored_on": "public-data" if outcome.public else "sites" if test.total else None,
        "loss": test.mean_loss,
        "mean_site_accuracy": float(np.mean(list(accuracies.values()))) if accuracies else float("nan"),
        "worst_site_accuracy": min(accuracies.values(), default=float("nan")),
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
        "images_unreadable": None
        if federation.hidden
        else sum(description.unreadable for description in federation.descriptions.values()),
        "bytes_up_per_site_round": _mean(repeated, "bytes_up_per_site"),
        "bytes_down_per_site_round": _mean(repeated, "bytes_down_per_site"),
        "seconds": {"rounds": round(seconds, 3)},
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint, "resolution": backbone.resolution},
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
    """Return counts and confusion matrix over the sites' test images; zeros if no site returned any."""
    classes, answers = len(outcome.classes), [outcome.total] if outcome.total else [*outcome.confusion.values()]
    zeros = np.zeros((classes, classes), np.int64)
    counts = sum((scores.test for scores in answers), Counts.empty(classes))
    return counts, sum((scores.matrix for scores in answers), zeros)


def _images(outcome: Outcome) -> dict[str, int]:
    """Return images by split, empty if sites do not reveal them."""
    if outcome.federation.hidden:
        return {}
    descriptions = outcome.federation.descriptions.values()
    counts = np.array([splits for description in descriptions for splits in description.images.values()])
    return dict(zip(("train", "validation", "test"), counts.sum(0).tolist(), strict=True))


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> int:
    return round(float(np.mean([float(row[column]) for row in rows])))
