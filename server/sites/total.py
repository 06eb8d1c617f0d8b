"""The total of sites' sums, added up as they arrive."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.wire.protocol import Sums


@dataclass
class RunningTotal:
    """A total in float64, in the order of arrival: site order, then sites that were asked again."""

    value: Sums | None = None

    def added(self, sums: Mapping[str, Sums]) -> dict[str, Sums]:
        """Add each site's sums, in name order; return them without their arrays."""
        for site in sorted(sums):
            self._add(sums[site])
        return {site: replace(one, arrays=()) for site, one in sums.items()}

    def _add(self, sums: Sums) -> None:
        if self.value is None:
            zeros: tuple[NDArray[np.float64], ...] = tuple(np.zeros(array.shape) for array in sums.arrays)
            self.value = replace(sums, examples=0, arrays=zeros)
        for total, array in zip(self.value.arrays, sums.arrays, strict=True):
            total += array
        self.value = replace(self.value, examples=self.value.examples + sums.examples)
