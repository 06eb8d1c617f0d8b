"""What ``summary.json`` says of a federation, computed from summed counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.backbone import Backbone
from common.config import RunConfig
from common.metrics import Counts
from server.records import Outcome


def summarise(
    config: RunConfig,
    backbone: Backbone,
    history: Sequence[Mapping[str, str]],
    left_out: Mapping[str, Any],
    outcome: Outcome,
    seconds: float,
) -> dict[str, Any]:
    """Summarise the best head of a run on the test images of all sites, and on each site's own.

    ``seconds`` is the wall time of the rounds, in this process.
    """
    test = sum((scores.test for scores in outcome.confusion.values()), Counts.empty(len(outcome.classes)))
    own = {site: scores.test.accuracy for site, scores in outcome.confusion.items() if scores.test.total}
    splits, federation, best = _images(outcome), outcome.federation, outcome.best
    trained = [row for row in history if row["phase"] == "train"]
    repeated = trained or [row for row in history if row["phase"] == "sums"]
    summary = {
        "accuracy": test.accuracy,
        **test.macro(),
        "loss": test.mean_loss,
        "mean_site_accuracy": float(np.mean(list(own.values()))) if own else float("nan"),
        "worst_site_accuracy": min(own.values(), default=float("nan")),
        "site_accuracy": own,
        "confusion_matrix": np.sum([scores.matrix for scores in outcome.confusion.values()], axis=0).tolist(),
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
        "images": sum(splits.values()),
        "images_by_split": splits,
        "images_unreadable": sum(description.unreadable for description in federation.descriptions.values()),
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
    return summary


def _images(outcome: Outcome) -> dict[str, int]:
    told = outcome.federation.descriptions.values()
    counts = np.array([splits for description in told for splits in description.images.values()] or [(0, 0, 0)])
    return dict(zip(("train", "validation", "test"), counts.sum(0).tolist(), strict=True))


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> int:
    return round(float(np.mean([float(row[column]) for row in rows])))
