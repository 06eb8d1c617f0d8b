"""What ``summary.json`` says of a federation, computed from summed counts."""

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
    """Summarise the best head of a run: on the test images of all sites, and on each site's own, or on public ones.

    What is not known, since sites keep it to themselves, is NaN or None.
    ``seconds`` is the wall time of the rounds, in this process.
    """
    test, matrix = outcome.public or _of_sites(outcome)
    own = {site: scores.test.accuracy for site, scores in outcome.confusion.items() if scores.test.total}
    splits, federation, best = _images(outcome), outcome.federation, outcome.best
    trained = [row for row in history if row["phase"] == "train"]
    repeated = trained or [row for row in history if row["phase"] == "sums"]
    summary = {
        "accuracy": test.accuracy,
        **test.macro(),
        "scored_on": "public-data" if outcome.public else "sites" if test.total else None,
        "loss": test.mean_loss,
        "mean_site_accuracy": float(np.mean(list(own.values()))) if own else float("nan"),
        "worst_site_accuracy": min(own.values(), default=float("nan")),
        "site_accuracy": own,
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
        else sum(told.unreadable for told in federation.descriptions.values()),
        "bytes_up_per_site_round": _mean(repeated, "bytes_up_per_site"),
        "bytes_down_per_site_round": _mean(repeated, "bytes_down_per_site"),
        "seconds": {"rounds": round(seconds, 3)},
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint, "resolution": backbone.resolution},
        "seed": config.seed,
    }
    if outcome.progress.chosen:
        summary["one_shot"] = {"head": config.one_shot, **outcome.progress.chosen}
    if outcome.points:
        summary["kept_head_is_a_mix"] = best.mixed
    if outcome.personal:
        summary["personal"] = dict(outcome.personal)
    if outcome.privacy:
        summary["privacy"] = dict(outcome.privacy)
    return summary


def _of_sites(outcome: Outcome) -> tuple[Counts, NDArray[np.int64]]:
    """Return the counts on the sites' test images, and the confusion matrix; of none where no site says."""
    classes, told = len(outcome.classes), [outcome.total] if outcome.total else [*outcome.confusion.values()]
    nothing = np.zeros((classes, classes), np.int64)
    counts = sum((scores.test for scores in told), Counts.empty(classes))
    return counts, sum((scores.matrix for scores in told), nothing)


def _images(outcome: Outcome) -> dict[str, int]:
    """Return images by split; nothing where sites keep them to themselves."""
    if outcome.federation.hidden:
        return {}
    told = outcome.federation.descriptions.values()
    counts = np.array([splits for description in told for splits in description.images.values()])
    return dict(zip(("train", "validation", "test"), counts.sum(0).tolist(), strict=True))


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> int:
    return round(float(np.mean([float(row[column]) for row in rows])))
