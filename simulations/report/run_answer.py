"""The answer about one run: the facts behind its sentences on accuracy, privacy and cost."""

import math
from dataclasses import dataclass

import numpy as np

from fedtransfer.simulations.report.blocks import Fact
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.sentences import fact
from fedtransfer.simulations.scoring.estimate import rising


@dataclass(frozen=True)
class Accuracy:
    """Facts about a run's accuracy.

    Attributes:
        known: whether anybody knows it.
        outside: measured from outside the simulated federation.
        public: the federation itself scores public images.
        images: number of test images, 0 if unknown.
        low, high: Wilson's 95 % interval over these.
        worst: the site of the lowest accuracy on its own test images, "" if unknown.
        alone: mean accuracy of heads trained at a site alone, None if unknown.
        compared, ahead: sites with such a head, and those where it is better.
        rise: of the accuracy in the last rounds, 0 unless clear.
    """

    known: bool
    outside: bool
    public: bool
    images: int
    low: float
    high: float
    worst: str
    alone: float | None
    compared: int
    ahead: int
    rise: float

    @classmethod
    def from_run(cls, run: Run) -> "Accuracy":
        """Collect the facts from a run's summary and history."""
        summary = run.summary
        outside, public = "measured_outside_the_federation" in summary, summary.get("scored_on") == "public-data"
        matrix = summary.get("confusion_matrix")
        images = int(np.sum(matrix)) if matrix and not (outside and public) else 0
        low, high = _wilson(run.accuracy, images)
        by_site = run.measured.get("site_accuracy") or {}
        alone = summary.get("baselines_on_own_test_images") or {}
        local = {site: accuracy for site, accuracy in alone.get("local", {}).items() if site in by_site}
        return cls(
            known=not math.isnan(run.accuracy),
            outside=outside,
            public=public,
            images=images,
            low=low,
            high=high,
            worst=min(by_site, key=lambda site: by_site[site]) if by_site else "",
            alone=alone.get("local_mean"),
            compared=len(local),
            ahead=sum(accuracy > by_site[site] for site, accuracy in local.items()),
            rise=rising(run.curve("accuracy")[1]),
        )


def answer(run: Run) -> tuple[Fact, ...]:
    """Answer for one run: how good, how private, at what cost."""
    return (
        fact("accuracy", "of_run", run, Accuracy.from_run(run)),
        fact("privacy", "of_run", run),
        fact("cost", "of_run", run),
    )


def _wilson(share: float, count: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    if not count or math.isnan(share):
        return math.nan, math.nan
    low, high = binomtest(round(share * count), count).proportion_ci(0.95, "wilson")
    return float(low), float(high)
