"""The map from a backbone's features to a head's: standardise, project, scale to length 1."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.seeds import generator

Moments = tuple[NDArray[np.float64], ...]  # mean (d,) and deviation (d,) over all sites' training images


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """x → ((x - offset) · scale) @ matrix → length 1, without the steps that are None.

    Maps of equal numbers are equal.
    """

    features: int  # d, the width of a raw feature vector
    # offset, scale: (d,) float32.
    offset: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None
    matrix: NDArray[np.float32] | None = None  # (d, d') float32
    unit: bool = True  # whether each vector is scaled to length 1 at the end; a vector of zeros stays

    @property
    def width(self) -> int:
        """d', the width of a vector that a head sees."""
        return self.features if self.matrix is None else self.matrix.shape[1]

    @cached_property
    def _numbers(self) -> tuple[Any, ...]:
        arrays = (self.offset, self.scale, self.matrix)
        return self.features, self.unit, *(None if array is None else array.tobytes() for array in arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureMap) and self._numbers == other._numbers

    def __hash__(self) -> int:
        return hash(self._numbers)

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map raw features (n, d) float32 to the features that a head sees, (n, d') float32."""
        if self.offset is not None:
            x = x - self.offset
        if self.scale is not None:
            x = x * self.scale
        if self.matrix is not None:
            x = x @ self.matrix
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) if self.unit else x


def feature_map(config: RunConfig, backbone: Backbone, moments: Moments | None = None) -> FeatureMap:
    """Return the map of a run config, for a backbone with the public statistics in use.

    ``moments`` are the federation's mean and deviation, for ``--standardise federated``.

    Raises:
        UserError: moments are needed and missing, or --dimensions exceeds the features' width.
    """
    offset: NDArray[np.float64] | NDArray[np.float32] | None = None
    deviation: NDArray[np.float64] | NDArray[np.float32] | None = None
    if config.standardise in ("centre", "public"):
        offset, deviation = backbone.public.mean, backbone.public.std
    elif config.standardise == "federated":
        if moments is None:
            raise UserError(
                "--standardise federated: the federation's mean and deviation are missing; "
                "a run sums them at its beginning and stores them in its head.npz"
            )
        offset, deviation = moments
    mean = None if offset is None else offset.astype(np.float32)
    scale = None if deviation is None else _inverse(deviation)
    return FeatureMap(backbone.features, mean, scale, _matrix(config, backbone), config.normalise)


def feature_width(config: RunConfig, backbone: Backbone) -> int:
    """Return d', the width of the features heads see. Raises UserError: --dimensions exceeds d."""
    if config.project == "none":
        return backbone.features
    if not 0 < config.dimensions <= backbone.features:
        raise UserError(
            f"--dimensions {config.dimensions}: the features of {backbone.name} have {backbone.features}, "
            f"and --project {config.project} makes them fewer; expected 1 to {backbone.features}"
        )
    return config.dimensions


def moments_of(examples: int, total: NDArray[np.float64], squares: NDArray[np.float64]) -> Moments:
    """Return mean and deviation (d,) float64 from n, Σx and Σx² over all examples.

    A variance within the rounding error of the difference is of a constant feature: 0.
    """
    mean, second = total / examples, squares / examples
    variance = second - mean**2
    variance[variance <= examples * np.finfo(np.float64).eps * second] = 0
    return mean, np.sqrt(variance)


def _inverse(deviation: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / deviation; a constant feature stays as it is."""
    return np.divide(1, deviation, out=np.ones_like(deviation), where=deviation > 0).astype(np.float32)


def _matrix(config: RunConfig, backbone: Backbone) -> NDArray[np.float32] | None:
    width = feature_width(config, backbone)
    if config.project == "pca":
        assert backbone.public.axes is not None  # configured_backbone has refused a backbone without them
        return np.ascontiguousarray(backbone.public.axes[:, :width])
    return _random_matrix(config.seed, backbone.features, width) if config.project == "random" else None


@lru_cache(maxsize=2)
def _random_matrix(seed: int, features: int, width: int) -> NDArray[np.float32]:
    """Return a Gaussian matrix; it keeps distances on average (Johnson, Lindenstrauss 1984)."""
    gaussian = generator(seed, "projection", features, width).standard_normal((features, width))
    return (gaussian / np.sqrt(width)).astype(np.float32)
