"""A canary site over several runs: Jagielski et al. 2020, "Auditing Differentially Private Machine Learning" (arXiv 2006.07709).

One site has many more images than any other, and an update far beyond the clip in a direction of its own. Half of the
runs have it, half do not; all have noise of their own. Who sees what is released takes a run to have the canary where
the projection on its direction, over all rounds, is above a threshold. If the mechanism is (ε, δ) differentially private,
adding or removing one site, then

    P[guessed | there] ≤ e^ε P[guessed | not there] + δ,   P[not guessed | not there] ≤ e^ε P[not guessed | there] + δ,

so a threshold that both errors are rare at refutes small ε. It is chosen on the first half of the runs; the errors on the
second half are bounded by Clopper and Pearson 1934.

``python tests/evidence/canary_site.py --out FILE`` writes a table: what the server does, right or weighting sites by
their numbers of images, and the lower bounds of ε that are found.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import beta

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.privacy.clipping import clipped
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.server.privacy.mechanism import SiteLevel

CLAIMS = (1.0, 2.0, 4.0)
SEEDS = range(20)
RUNS = 1000  # with the canary, and as many without it
SITES = 10
IMAGES, OF_OTHERS = 1000, 10  # at the canary's site, and at each other
_DIRECTION = (0, 0)  # of the canary's update, in the kernel
_LENGTH = 100.0

Scores = NDArray[np.float64]


def audit(config: RunConfig, seed: int, runs: int = RUNS) -> float:
    """Return the lower bound of ε that so many runs with the canary, and as many without it, give at the config's δ.

    Args:
        config: of a run with ``--dp site``; its number of sites counts the canary.
        seed: of all randomness.
        runs: of each kind.
    """
    rng = np.random.default_rng(seed)
    there, away = ([_projection(config, present, rng) for _ in range(runs)] for present in (True, False))
    return threshold_bound(np.array(there), np.array(away), config.delta)


def threshold_bound(there: Scores, away: Scores, delta: float, confidence: float = 0.95) -> float:
    """Return the largest ε that is refuted, 0 where none is.

    Args:
        there: scores of independent runs with the canary, (n,), higher for more of it.
        away: of runs without it.
        delta: δ.
        confidence: chance that a mechanism with less than the returned ε does not come out so.
    """
    candidates = np.quantile(np.concatenate([there[::2], away[::2]]), np.linspace(0, 1, 101))
    chosen = candidates[_bounds(there[::2], away[::2], candidates, delta, confidence).argmax()]
    return max(0.0, float(_bounds(there[1::2], away[1::2], chosen[None], delta, confidence)[0]))


def _bounds(there: Scores, away: Scores, thresholds: Scores, delta: float, confidence: float) -> Scores:
    """Return the ε that the errors at each threshold refute; both rates are bounded at once, each at half of what may go wrong."""
    missed = _at_most((there[:, None] <= thresholds).sum(0), len(there), (1 - confidence) / 2)
    alarms = _at_most((away[:, None] > thresholds).sum(0), len(away), (1 - confidence) / 2)
    ratios = np.maximum((1 - missed - delta) / alarms, (1 - alarms - delta) / missed)
    return np.log(np.maximum(ratios, np.finfo(float).tiny))


def _at_most(errors: NDArray[np.intp], runs: int, alpha: float) -> Scores:
    """Return Clopper-Pearson upper bounds of rates: one is below the true rate with a chance of ``alpha`` at most."""
    return np.where(errors == runs, 1.0, beta.ppf(1 - alpha, errors + 1, np.maximum(runs - errors, 1)))


def _projection(config: RunConfig, present: bool, rng: np.random.Generator) -> float:
    """Run all rounds; return what is released along the canary's direction. The other sites' updates are 0 there."""
    promised = guarantee(config)
    assert promised
    level, along = SiteLevel.from_config(config, promised), 0.0
    for _ in range(promised.rounds):
        comes = present and rng.random() < config.fraction
        released = level.release([_update(_LENGTH)] * comes, _update(0.0), config.clip, rng).delta
        along += float(released[0][_DIRECTION])
    return along


def _update(length: float) -> Arrays:
    kernel = np.zeros((2, 2), np.float32)
    kernel[_DIRECTION] = length
    return kernel, np.zeros(2, np.float32)


@contextmanager
def weighted_by_images(sites: int = SITES) -> Iterator[None]:
    """Have the server weight sites by their images, n_k / Σ n, while the noise stays that of equal weights, 1 / N."""
    weight = sites * IMAGES / (IMAGES + (sites - 1) * OF_OTHERS)  # the canary's, over that of equal weights

    def weighted(update: Arrays, bound: float) -> Any:
        return tuple(weight * array for array in clipped(update, bound))

    with patch("fedtransfer.server.privacy.mechanism.clipped", weighted):
        yield


def configured(claim: float, **settings: Any) -> RunConfig:
    """Return the config of a run with ``--dp site`` that claims so much."""
    given = {"rounds": 1, "sites": SITES, "delta": 1e-5, **settings}
    return RunConfig(
        dp="site", epsilon=claim, weighting="uniform", classes="declared", class_names="a,b", clip=1.0, **given
    )


def main(out: Annotated[Path, typer.Option(help="File to write, CSV.")]) -> None:
    """Audit the server's mechanism, right and broken."""
    with out.open("w", buffering=1, newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            ["fault", "claimed_epsilon", "runs_of_each", "audits", "lowest_bound", "mean_bound", "highest_bound"]
        )
        for claim in CLAIMS:
            config = configured(claim)
            right = [audit(config, seed) for seed in SEEDS]
            with weighted_by_images():
                broken = [audit(config, seed) for seed in SEEDS]
            for fault, bounds in (("none", right), ("sites weighted by their images", broken)):
                numbers = (f"{bound:.2f}" for bound in (min(bounds), np.mean(bounds), max(bounds)))
                table.writerow([fault, f"{claim:g}", RUNS, len(SEEDS), *numbers])


if __name__ == "__main__":
    typer.run(main)
