"""An audit by a canary site over many runs, after Jagielski et al. 2020 (arXiv 2006.07709).

One site has many more images than any other, and an update far above the clip in a direction that
no other site uses. Half of the runs include it; each run has independent noise. The auditor sees
the releases, and guesses that the canary was there if the projection on its direction, over all
rounds, is above a threshold. If the mechanism is (ε, δ) differentially private for adding or
removing one site, then

    P[guessed | there] ≤ e^ε P[guessed | away] + δ,
    P[not guessed | away] ≤ e^ε P[not guessed | there] + δ,

so a threshold at which both errors are rare refutes small ε. The first half of the runs chooses the
threshold; on the second half, Clopper-Pearson intervals (1934) bound the errors.

``python tests/evidence/canary_site.py --out FILE`` writes a table: the lower bounds of ε for the
server as it is, and with sites weighted by their numbers of images.
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
from fedtransfer.common.privacy.gaussian import clipped
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.server.privacy.mechanism import SiteLevel

CLAIMS = (1.0, 2.0, 4.0)
SEEDS = range(20)
RUNS = 1000  # with the canary; the same number without it
SITES = 10
IMAGES, OF_OTHERS = 1000, 10  # at the canary's site, and at each other
_DIRECTION = (0, 0)  # of the canary's update, in the kernel
_LENGTH = 100.0

Scores = NDArray[np.float64]


def audit(config: RunConfig, seed: int, runs: int = RUNS) -> float:
    """Return the lower bound of ε at the config's δ.

    Args:
        config: settings with ``--dp site``; the number of sites includes the canary.
        seed: the seed of all randomness.
        runs: the number of runs with the canary, and of runs without it.
    """
    rng = np.random.default_rng(seed)
    there, away = ([_projection(config, present, rng) for _ in range(runs)] for present in (True, False))
    return threshold_bound(np.array(there), np.array(away), config.delta)


def threshold_bound(there: Scores, away: Scores, delta: float, confidence: float = 0.95) -> float:
    """Return the largest refuted ε, 0 if none is refuted.

    Args:
        there: scores (n,) of independent runs with the canary; higher scores suggest the canary.
        away: scores (n,) of runs without it.
        delta: δ.
        confidence: the least probability that the returned bound is at most the true ε.
    """
    candidates = np.quantile(np.concatenate([there[::2], away[::2]]), np.linspace(0, 1, 101))
    chosen = candidates[_bounds(there[::2], away[::2], candidates, delta, confidence).argmax()]
    return max(0.0, float(_bounds(there[1::2], away[1::2], chosen[None], delta, confidence)[0]))


def _bounds(there: Scores, away: Scores, thresholds: Scores, delta: float, confidence: float) -> Scores:
    """Return the ε that each threshold refutes; each rate gets half of the error probability."""
    missed = _at_most((there[:, None] <= thresholds).sum(0), len(there), (1 - confidence) / 2)
    alarms = _at_most((away[:, None] > thresholds).sum(0), len(away), (1 - confidence) / 2)
    ratios = np.maximum((1 - missed - delta) / alarms, (1 - alarms - delta) / missed)
    return np.log(np.maximum(ratios, np.finfo(float).tiny))


def _at_most(errors: NDArray[np.intp], runs: int, alpha: float) -> Scores:
    """Return Clopper-Pearson upper bounds of rates, each wrong with probability ≤ ``alpha``."""
    return np.where(errors == runs, 1.0, beta.ppf(1 - alpha, errors + 1, np.maximum(runs - errors, 1)))


def _projection(config: RunConfig, present: bool, rng: np.random.Generator) -> float:
    """Return the sum of all releases along the canary's direction; other sites add 0 there."""
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
    """Let the server weight sites by their images, n_k / Σ n, with the noise of equal weights."""
    weight = sites * IMAGES / (IMAGES + (sites - 1) * OF_OTHERS)  # of the canary, over equal weights

    def weighted(update: Arrays, bound: float) -> Any:
        return tuple(weight * array for array in clipped(update, bound))

    with patch("fedtransfer.server.privacy.mechanism.clipped", weighted):
        yield


def configured(claim: float, **settings: Any) -> RunConfig:
    """Return the config of a run with ``--dp site`` and ε = ``claim``."""
    values = {"rounds": 1, "sites": SITES, "delta": 1e-5, **settings}
    return RunConfig(
        dp="site",
        epsilon=claim,
        weighting="uniform",
        classes="declared",
        class_names="a,b",
        clip=1.0,
        **values,
    )


def main(out: Annotated[Path, typer.Option(help="File to write, CSV.")]) -> None:
    """Audit the server's mechanism, correct and broken."""
    with out.open("w", buffering=1, newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            [
                "fault",
                "claimed_epsilon",
                "runs_of_each",
                "audits",
                "lowest_bound",
                "mean_bound",
                "highest_bound",
            ]
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
