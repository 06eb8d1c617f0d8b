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
    splits = _images(outcome)
    trained = [row for row in history if row["phase"] == "train"]
    failed = [row for row in trained if row["status"] != "ok"]
    return {
        "accuracy": test.accuracy,
        **test.macro(),
        "loss": test.mean_loss,
        "mean_site_accuracy": float(np.mean(list(own.values()))) if own else float("nan"),
        "worst_site_accuracy": min(own.values(), default=float("nan")),
        "site_accuracy": own,
        "confusion_matrix": np.sum([scores.matrix for scores in outcome.confusion.values()], axis=0).tolist(),
        "classes": list(outcome.classes),
        "rounds": outcome.rounds,
        "rounds_planned": config.rounds,
        "stopped_early": outcome.rounds < config.rounds,
        "failed_attempts": len(failed),
        "best_round": outcome.best_round,
        "sites": len(outcome.descriptions),
        "sites_absent": outcome.absent,
        "sites_left_out": left_out,
        "sites_without_result": outcome.undelivered,
        "images": sum(splits.values()),
        "images_by_split": splits,
        "images_unreadable": sum(description.unreadable for description in outcome.descriptions.values()),
        "bytes_up_per_site_round": _mean(trained, "bytes_up_per_site"),
        "bytes_down_per_site_round": _mean(trained, "bytes_down_per_site"),
        "seconds": {"rounds": round(seconds, 3)},
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint, "resolution": backbone.resolution},
        "seed": config.seed,
    }


def _images(outcome: Outcome) -> dict[str, int]:
    counts = np.array(
        [splits for description in outcome.descriptions.values() for splits in description.images.values()]
    )
    return dict(zip(("train", "validation", "test"), counts.sum(0).tolist(), strict=True))


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> int:
    return round(float(np.mean([float(row[column]) for row in rows])))
