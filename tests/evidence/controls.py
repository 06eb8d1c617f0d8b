"""Controls of the audits: correct mechanisms stay below their claimed ε, broken ones do not.

``python tests/evidence/controls.py --out FILE`` writes a table: for each mechanism, fault and claim
the lower bounds of ε from audits of one run. A fault replaces one function while an audit runs.
"""

import csv
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest.mock import patch

import numpy as np
import typer
from threadpoolctl import threadpool_limits

from fedtransfer.client.training import private as private_trainer
from fedtransfer.client.training.private import ClippedGradients, batches
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.privacy.gaussian import NoiseSource, clipped, noised
from fedtransfer.common.privacy.guarantee import Guarantee, guarantee
from fedtransfer.server.privacy.mechanism import SiteLevel
from fedtransfer.simulations.audit.canaries import (
    Canaries,
    Kernel,
    Scores,
    of_rounds,
    of_steps,
    of_sums,
    private_kernel,
)
from fedtransfer.simulations.audit.one_run import guesses_for, lower_bound, right_guesses

Mechanism = Callable[[float, Canaries, np.random.Generator], Scores]

DELTA, CLIP = 1e-5, 1.0
STEPS, RATE = 100, 0.25  # of DP-SGD; every image is in some step
SITES = 10_000  # more sites than canaries; the others change nothing
CLAIMS = (1.0, 2.0, 4.0)
SEEDS = {True: range(20), False: range(5)}  # for correct code, and for broken code
CANARIES = 2000
GUESSES = guesses_for(max(CLAIMS) + 1, CANARIES, DELTA)  # enough to refute every claim; chosen in advance

_INSIDE = CANARIES / 2  # on average
_IMAGES, _OF_OTHERS = 1000, 10  # at a canary's site, and at another


class Control(NamedTuple):
    """A mechanism with a fault, or without one.

    Attributes:
        mechanism: its name.
        fault: the fault in words; "" for none.
        run: returns the scores of canaries.
        broken: applies the fault while its context lasts.
    """

    mechanism: str
    fault: str
    run: Mechanism
    broken: Callable[[], AbstractContextManager[Any]] = nullcontext

    def audit(self, claim: float, seed: int) -> float:
        """Return the lower bound of ε from one run with noise for ε = ``claim``."""
        rng = np.random.default_rng(seed)
        canaries = Canaries.draw(CANARIES, rng)
        with self.broken():
            scores = self.run(claim, canaries, rng)
        return lower_bound(right_guesses(scores, canaries.inside, GUESSES), GUESSES, CANARIES, DELTA)


def main(out: Annotated[Path, typer.Option(help="File to write, CSV.")]) -> None:
    """Audit every mechanism, correct and broken, with a process for each core."""
    rows = [(number, claim) for number in range(len(CONTROLS)) for claim in CLAIMS]
    with ProcessPoolExecutor() as pool, out.open("w", buffering=1, newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            ["mechanism", "fault", "claimed_epsilon", "runs", "lowest_bound", "mean_bound", "highest_bound"]
        )
        for (number, claim), bounds in zip(rows, pool.map(_bounds, *zip(*rows, strict=True)), strict=True):
            numbers = (f"{bound:.2f}" for bound in (min(bounds), np.mean(bounds), max(bounds)))
            control = CONTROLS[number]
            table.writerow([control.mechanism, control.fault or "none", f"{claim:g}", len(bounds), *numbers])


def _bounds(number: int, claim: float) -> list[float]:
    with threadpool_limits(1):
        control = CONTROLS[number]
        return [control.audit(claim, seed) for seed in SEEDS[not control.fault]]


def dp_sgd(claim: float, canaries: Canaries, rng: np.random.Generator, *, counted: int = STEPS) -> Scores:
    """Score canaries by one round of DP-SGD whose accounting covers ``counted`` of its steps."""
    return of_steps(replace(_promised_of_steps(claim, counted, RATE), releases=STEPS), 1, canaries, rng)


def dp_sgd_singly(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score each canary by one step of DP-SGD at a site that has no other image."""
    promised = _promised_of_steps(claim, 1, 1.0)
    return _singly(canaries, lambda canary: private_kernel(canary, promised, rng), Canaries.in_head)


def dp_fedncm(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by DP-FedNCM."""
    return of_sums(_config(claim, dp="image", strategy="fedncm"), canaries, rng)


def dp_fed3r(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by DP-Fed3R."""
    return of_sums(_config(claim, dp="image", strategy="fed3r"), canaries, rng)


def site_level(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score canaries by one round under differential privacy of sites."""
    config = _site_level(claim)
    return of_rounds(config, _promised(config), canaries, rng)


def site_level_singly(claim: float, canaries: Canaries, rng: np.random.Generator) -> Scores:
    """Score each canary by a round under differential privacy of sites, with no other site."""
    config = _site_level(claim)
    level = SiteLevel.from_config(config, _promised(config))

    def released(canary: Canaries) -> Kernel:
        return level.release(canary.updates(), canary.head, CLIP, rng).delta[0]

    return _singly(canaries, released, Canaries.in_sums)


def _promised_of_steps(claim: float, steps: int, rate: float) -> Guarantee:
    return _promised(_config(claim, dp="image", weighting="uniform", image_rate=rate, local_steps=steps))


def _site_level(claim: float) -> RunConfig:
    return _config(claim, dp="site", weighting="uniform", sites=SITES)


def _singly(
    canaries: Canaries, released: Callable[[Canaries], Kernel], scored: Callable[[Canaries, Kernel], Scores]
) -> Scores:
    """Score each canary by its own release; one without noise shows that the canary is away."""
    singles = [replace(canaries, inside=canaries.inside[[row]]) for row in range(len(canaries.inside))]
    kernels = [(canary, released(canary)) for canary in singles]
    return np.array([scored(canary, kernel)[0] if kernel.any() else -np.inf for canary, kernel in kernels])


def _config(claim: float, **settings: Any) -> RunConfig:
    return RunConfig(
        epsilon=claim, delta=DELTA, clip=CLIP, rounds=1, classes="declared", class_names="a,b", **settings
    )


def _promised(config: RunConfig) -> Guarantee:
    promised = guarantee(config)
    assert promised
    return promised


def _replaced(target: str, function: Callable[..., Any]) -> Callable[[], AbstractContextManager[Any]]:
    return partial(patch, target, function)


def _silent(arrays: Any, deviation: float, rng: np.random.Generator) -> Any:
    return arrays


def _silent_on_zeros(arrays: Any, deviation: float, rng: np.random.Generator) -> Any:
    return noised(arrays, deviation, rng) if any(array.any() for array in arrays) else arrays


def _unbounded_gradients(x: Any, y: Any, clip: float) -> ClippedGradients:
    return ClippedGradients(x, y, math.inf)


def _times(factor: float, delta: Any, bound: float) -> Any:
    return tuple(factor * array for array in clipped(delta, bound))


@contextmanager
def _silent_on_empty_batches() -> Iterator[None]:
    draw, batch = NoiseSource.draw, [0]

    def recorded_batches(*arguments: Any) -> Any:
        for rows in batches(*arguments):
            batch[0] = len(rows)
            yield rows

    with (
        patch.object(private_trainer, "batches", recorded_batches),
        patch.object(NoiseSource, "draw", lambda source: draw(source) * bool(batch[0])),
    ):
        yield


def _by_images() -> float:
    """Return a canary's weight by numbers of images, relative to equal weights."""
    others = SITES - CANARIES
    return (_INSIDE + others) * _IMAGES / (_INSIDE * _IMAGES + others * _OF_OTHERS)


_draw = NoiseSource.draw
_TRAINING, _MECHANISM = "fedtransfer.client.training", "fedtransfer.server.privacy.mechanism"
CONTROLS = (
    Control("DP-SGD", "", dp_sgd),
    Control("DP-SGD", "noise off", dp_sgd,
            partial(patch.object, NoiseSource, "draw", lambda source: 0 * _draw(source))),
    Control("DP-SGD", "clip off", dp_sgd,
            _replaced(_TRAINING + ".private.ClippedGradients", _unbounded_gradients)),
    Control("DP-SGD", "all images in every batch, a sample accounted for", dp_sgd,
            _replaced(_TRAINING + ".private.batches", lambda n, rate, steps, rng: [np.arange(n)] * steps)),
    Control("DP-SGD", f"{STEPS} steps, one accounted for", partial(dp_sgd, counted=1)),
    Control("DP-SGD, one image or none", "", dp_sgd_singly),
    Control("DP-SGD, one image or none", "no noise on empty batches", dp_sgd_singly,
            _silent_on_empty_batches),
    Control("DP-FedNCM", "", dp_fedncm),
    Control("DP-FedNCM", "noise off", dp_fedncm, _replaced(_TRAINING + ".statistics.noised", _silent)),
    Control("DP-FedNCM", "clip off", dp_fedncm,
            _replaced(_TRAINING + ".statistics.clipped_rows", lambda x, bound: x)),
    Control("DP-Fed3R", "", dp_fed3r),
    Control("DP-Fed3R", "noise off", dp_fed3r, _replaced(_TRAINING + ".statistics.noised", _silent)),
    Control("DP-Fed3R", "clip off", dp_fed3r,
            _replaced(_TRAINING + ".statistics.clipped_rows", lambda x, bound: x)),
    Control("site level", "", site_level),
    Control("site level", "noise off", site_level, _replaced(_MECHANISM + ".noised", _silent)),
    Control("site level", "clip off", site_level,
            _replaced(_MECHANISM + ".clipped", lambda delta, bound: delta)),
    Control("site level", "sites weighted by their images", site_level,
            _replaced(_MECHANISM + ".clipped", partial(_times, _by_images()))),
    Control("site level", "divided by the sites that answered", site_level,
            _replaced(_MECHANISM + ".clipped", partial(_times, SITES / _INSIDE))),
    Control("site level, one site or none", "", site_level_singly),
    Control("site level, one site or none", "no noise on empty cohorts", site_level_singly,
            _replaced(_MECHANISM + ".noised", _silent_on_zeros)),
)  # fmt: skip

if __name__ == "__main__":
    typer.run(main)
