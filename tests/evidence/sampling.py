"""A test that batches are Poisson samples, as the accounting of ε assumes.

Shuffling in place of Poisson sampling can leak far more (Chua et al. 2024, arXiv 2403.17673;
Annamalai et al. 2024, arXiv 2411.04205). In a Poisson sample, each of n images is in each of T
batches by an independent draw with probability q. This gives three kinds of independent binomial
counts:

- the sizes of batches, T of Binomial(n, q); with shuffling they are equal;
- the uses of each image, n of Binomial(T, q); with passes over all images they are nearly equal;
- the images that a batch shares with the next, T / 2 of Binomial(n, q²) over disjoint pairs of
  batches; within a pass there are none.

A χ² test compares each with its distribution. The same holds for sites and cohorts.
"""

from collections.abc import Callable, Sequence
from functools import cache
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc
from scipy.stats import binom

from fedtransfer.client.training import private as private_trainer
from fedtransfer.client.training.private import ClippedGradients, train_privately
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.common.privacy.guarantee import Guarantee

Used = NDArray[np.bool_]
_EXPECTED = 5.0  # the least expected count of a cell, so that χ² is near its distribution


def poisson_p_value(used: Used, rate: float) -> float:
    """Return a p-value of batches against Poisson sampling.

    It is three times the smallest p-value of the three tests, at most 1 (Bonferroni).

    Args:
        used: (T, n), whether image is in batch.
        rate: q.

    Raises:
        ValueError: there are too few batches for a test.
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
        ValueError: there are so few counts that all would be in one cell.
    """
    cells, expected = _cells(len(counts), trials, chance)
    if len(cells) < 2:
        raise ValueError(
            f"{len(counts)} counts of Binomial({trials}, {chance:g}): too few for a test; observe more"
        )
    observed = np.bincount(np.searchsorted(cells, counts), minlength=len(cells))
    return float(chdtrc(len(cells) - 1, (np.square(observed - expected) / expected).sum()))


@cache
def _cells(count: int, trials: int, chance: float) -> tuple[list[int], NDArray[np.float64]]:
    """Return last value and expected count of each cell; cells are as narrow as possible."""
    cells, below = [], 0.0
    for value, at_most in enumerate(binom.cdf(np.arange(trials + 1), trials, chance)):
        if (at_most - below) * count >= _EXPECTED and (1 - at_most) * count >= _EXPECTED:
            cells.append(value)
            below = at_most
    cells.append(trials)
    return cells, np.diff(binom.cdf([-1, *cells], trials, chance)) * count


def batches_of_training(images: int, promised: Guarantee, rng: np.random.Generator) -> Used:
    """Return (steps, images), whether an image is in a batch of one round of DP-SGD at a site."""
    batches, sum_gradients = [], ClippedGradients.sum

    def record(
        self: ClippedGradients, weights: object, bias: object, rows: NDArray[np.intp], *more: object
    ) -> None:
        batches.append(rows)
        sum_gradients(self, weights, bias, rows, *more)  # type: ignore[arg-type]

    x, y = np.ones((images, 1), np.float32), np.zeros(images, np.int64)
    head, recipe = (np.zeros((1, 2), np.float32), np.zeros(2, np.float32)), Recipe("sgd", 0.1, 1, 1)
    with patch.object(private_trainer.ClippedGradients, "sum", record):
        train_privately(head, x, y, recipe, promised, rng)
    return used_in(batches, images)


def cohorts_of_rounds(draw: Callable[[Sequence[str], int], Sequence[str]], sites: int, rounds: int) -> Used:
    """Return (rounds, sites), whether a site is in a cohort.

    Args:
        draw: all names and the number of a round → the names of the cohort.
        sites: number of sites.
        rounds: number of rounds.
    """
    names = [f"site-{number:05}" for number in range(sites)]
    index = {name: i for i, name in enumerate(names)}
    return used_in([[index[name] for name in draw(names, round)] for round in range(1, rounds + 1)], sites)


def used_in(batches: Sequence[Sequence[int] | NDArray[np.intp]], n: int) -> Used:
    """Return (batches, n), whether an index is in a batch, from the indices of each batch."""
    used = np.zeros((len(batches), n), bool)
    for row, numbers in zip(used, batches, strict=True):
        row[np.asarray(numbers, np.intp)] = True
    return used
