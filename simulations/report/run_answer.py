"""The answer about one run: the facts behind its sentences on accuracy, privacy and cost."""

import math

import numpy as np

from fedtransfer.simulations.report.blocks import Fact
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.sentences import fact
from fedtransfer.simulations.scoring.estimate import rising


def answer(run: Run) -> tuple[Fact, ...]:
    """Answer for one run: how good, how private, at what cost."""
    return _accuracy(run), fact("privacy", "of_run", run), fact("cost", "of_run", run)


def _accuracy(run: Run) -> Fact:
    summary = run.summary
    outside, public = "measured_outside_the_federation" in summary, summary.get("scored_on") == "public-data"
    matrix = summary.get("confusion_matrix")
    images = int(np.sum(matrix)) if matrix and not (outside and public) else 0
    low, high = _wilson(run.accuracy, images)
    by_site = run.measured.get("site_accuracy") or {}
    alone = summary.get("baselines_on_own_test_images") or {}
    local = {site: accuracy for site, accuracy in alone.get("local", {}).items() if site in by_site}
    return fact(
        "accuracy",
        "of_run",
        run,
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


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), NaN for no count."""
    from scipy.stats import binomtest

    if not count or math.isnan(share):
        return math.nan, math.nan
    low, high = binomtest(round(share * count), count).proportion_ci(0.95, "wilson")
    return float(low), float(high)
