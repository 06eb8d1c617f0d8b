"""What ``summary.json`` says of a federation, computed from summed counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.backbone import Backbone
from common.config import RunConfig
from common.metrics import Counts
from server.rounds import Outcome, Round


def summarise(
    config: RunConfig, backbone: Backbone, rounds: Sequence[Round], outcome: Outcome, seconds: float
) -> dict[str, Any]:
    """Summarise the best head of a run on the test images of all sites, and on each site's own.

    ``seconds`` is the wall time of the rounds.
    """
    test = sum((scores.test for scores in outcome.confusion.values()), Counts.empty(len(outcome.classes)))
    own = {site: scores.test.accuracy for site, scores in outcome.confusion.items() if scores.test.total}
    splits = _images(outcome)
    trained = [record for record in rounds if record.round <= config.rounds]
    return {
        "accuracy": test.accuracy,
        **test.macro(),
        "loss": test.mean_loss,
        "mean_site_accuracy": float(np.mean(list(own.values()))) if own else float("nan"),
        "worst_site_accuracy": min(own.values(), default=float("nan")),
        "site_accuracy": own,
        "confusion_matrix": np.sum([scores.matrix for scores in outcome.confusion.values()], axis=0).tolist(),
        "classes": list(outcome.classes),
        "rounds": config.rounds,
        "best_round": outcome.best_round,
        "sites": len(outcome.descriptions),
        "sites_without_result": outcome.undelivered,
        "images": sum(splits.values()),
        "images_by_split": splits,
        "images_unreadable": sum(description.unreadable for description in outcome.descriptions.values()),
        "bytes_up_per_site_round": round(float(np.mean([record.bytes_up for record in trained]))),
        "bytes_down_per_site_round": round(float(np.mean([record.bytes_down for record in trained]))),
        "seconds": {"rounds": round(seconds, 3)},
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint, "resolution": backbone.resolution},
        "seed": config.seed,
    }


def _images(outcome: Outcome) -> dict[str, int]:
    counts = np.array(
        [splits for description in outcome.descriptions.values() for splits in description.images.values()]
    )
    return dict(zip(("train", "validation", "test"), counts.sum(0).tolist(), strict=True))
