"""Whether batches are Poisson samples, which ε was worked out for: shuffling sold as that can give away far more.

(Chua et al. 2024, arXiv 2403.17673; Annamalai et al. 2024, arXiv 2411.04205.) In a Poisson sample each of n images is in
each of T batches by its own draw, with chance q. So there are three kinds of independent binomial counts:

- the sizes of batches, T of Binomial(n, q); shuffling makes them one number;
- how often each image is used, n of Binomial(T, q); passes over all images make it nearly the same for all;
- images that a batch shares with the next, T / 2 of Binomial(n, q²), over pairs of batches apart; within a pass there are none.

Each is compared with its distribution by a χ² test. The same goes for sites and cohorts.
"""

from collections.abc import Callable, Sequence
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chisquare

from fedtransfer.client.training import private as private_trainer
from fedtransfer.client.training.private import ClippedGradients, train_privately
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.common.privacy.guarantee import Guarantee

Used = NDArray[np.bool_]
_EXPECTED = 5.0  # counts a cell, at least, for χ² to be near its distribution


def poisson_p_value(used: Used, rate: float) -> float:
    """Return a p-value of batches against Poisson sampling: for Poisson samples it is below p with a chance of p at most.

    It is three times the smallest of the three tests', or 1 (Bonferroni).

    Args:
        used: (T, n), which image is in which batch.
        rate: q.

    Raises:
        ValueError: the batches are so few that a test would have one cell.
    """
    batches, images = used.shape
    together = (used[0::2][: batches // 2] & used[1::2]).sum(1)
    values = (
        binomial_p_value(used.sum(1), images, rate),
        binomial_p_value(used.sum(0), batches, rate),
        binomial_p_value(together, images, rate**2),
    )
    return min(1.0, 3 * min(values))


def binomial_p_value(counts: NDArray[np.integer], trials: int, chance: float) -> float:
    """Return the p-value of a χ² test of independent counts against Binomial(trials, chance).

    Raises:
        ValueError: the counts are so few that all would be in one cell.
    """
    cells = _cells(len(counts), trials, chance)
    if len(cells) < 2:
        raise ValueError(f"{len(counts)} counts of Binomial({trials}, {chance:g}): too few for a test; observe more")
    expected = np.diff(binom.cdf([-1, *cells], trials, chance)) * len(counts)
    observed = np.bincount(np.searchsorted(cells, counts), minlength=len(cells))
    return float(chisquare(observed, expected).pvalue)


def _cells(count: int, trials: int, chance: float) -> list[int]:
    """Return the last value of each cell: as narrow as may be with so many counts expected in each."""
    cells, below = [], 0.0
    for value, at_most in enumerate(binom.cdf(np.arange(trials + 1), trials, chance)):
        if (at_most - below) * count >= _EXPECTED and (1 - at_most) * count >= _EXPECTED:
            cells.append(value)
            below = at_most
    return [*cells, trials]


def batches_of_training(images: int, promised: Guarantee, rng: np.random.Generator) -> Used:
    """Return which images are in which batch, (steps, images), as DP-SGD at a site sums them in a round."""
    batches, summed = [], ClippedGradients.sum

    def seen(self: ClippedGradients, weights: object, bias: object, rows: NDArray[np.intp], *more: object) -> None:
        batches.append(rows)
        summed(self, weights, bias, rows, *more)  # type: ignore[arg-type]

    x, y = np.ones((images, 1), np.float32), np.zeros(images, np.int64)
    head, recipe = (np.zeros((1, 2), np.float32), np.zeros(2, np.float32)), Recipe("sgd", 0.1, 1, 1)
    with patch.object(private_trainer.ClippedGradients, "sum", seen):
        train_privately(head, x, y, recipe, promised, rng)
    return used_in(batches, images)


def cohorts_of_rounds(draw: Callable[[Sequence[str], int], Sequence[str]], sites: int, rounds: int) -> Used:
    """Return which sites are in which cohort, (rounds, sites).

    Args:
        draw: from all names and the number of a round to the names that are drawn.
        sites: how many there are.
        rounds: how many are drawn.
    """
    names = [f"site-{number:05}" for number in range(sites)]
    place = {name: at for at, name in enumerate(names)}
    return used_in([[place[name] for name in draw(names, round)] for round in range(1, rounds + 1)], sites)


def used_in(batches: Sequence[Sequence[int] | NDArray[np.intp]], n: int) -> Used:
    """Return which of n are in which batch, (batches, n), from the numbers of each batch."""
    used = np.zeros((len(batches), n), bool)
    for row, numbers in zip(used, batches, strict=True):
        row[np.asarray(numbers, np.intp)] = True
    return used
