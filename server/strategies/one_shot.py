"""What the one-shot heads share: heads from sums of features, added up over sites in one round.

Each module ends in a ``OneShotHead``: ``solve``, and ``solve_noisy`` for differential privacy.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.wire.protocol import Sums
from fedtransfer.server.strategies.strategy import summed

Matrix = NDArray[np.float64]

# Candidates for λ, on the scale of the summed Gram matrix: features of length 1 add n to its trace.
GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3, 1e4)

# The bias of a class without images, so that it is never predicted. Finite, since 0 · ∞ is NaN.
NEVER = np.float32(-1e30)


def added(sums: Sequence[Sums]) -> tuple[Matrix, ...]:
    """Add the sites' arrays in float64, in the order given."""
    return summed([site.arrays for site in sums])


def head(kernel: Matrix, bias: Matrix, images: NDArray[Any]) -> Arrays:
    """Make a head, (d, C) and (C,), that never predicts classes without ``images`` (C,)."""
    none = images == 0
    return np.where(none, 0, kernel).astype(np.float32), np.where(none, NEVER, bias).astype(np.float32)


def unit_columns(kernel: Matrix) -> Matrix:
    """Scale each column to length 1; one of zeros stays as it is."""
    return kernel / np.maximum(np.linalg.norm(kernel, axis=0), np.finfo(np.float64).tiny)


def solved(matrix: Matrix, ridge: float, right: Matrix) -> Matrix:
    """Return (matrix + λI)⁻¹ right, by Cholesky.

    Raises:
        LinAlgError: the sum is not positive definite in float64.
    """
    factor = scipy.linalg.cho_factor(
        matrix + ridge * np.eye(len(matrix)), overwrite_a=True, check_finite=False
    )
    return scipy.linalg.cho_solve(factor, right, check_finite=False)


def by_ridge(config: RunConfig, solve: Callable[[float], Arrays]) -> dict[float, Arrays]:
    """Solve for the λ of the config, or for each of ``GRID`` that can be solved for: λ → head.

    Each has its own Cholesky factorisation: all eight take less time than one eigendecomposition.

    Raises:
        UserError: there is no solution.
    """
    heads: dict[float, Arrays] = {}
    for ridge in (config.ridge,) if config.ridge else GRID:
        try:
            candidate = solve(ridge)
        except scipy.linalg.LinAlgError:
            continue
        if all(np.isfinite(array).all() for array in candidate):
            heads[ridge] = candidate
    if not heads:
        raise UserError(
            f"ridge: with lambda {config.ridge or GRID[-1]:g} the sites' summed features "
            "cannot be solved for: the matrix is not positive definite in float64, "
            "since lambda is too small for it; give a larger --ridge, "
            "or scale features to length 1 (normalise = true)"
        )
    return heads
