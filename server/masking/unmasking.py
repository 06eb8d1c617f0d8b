"""From masked vectors and shares to the sum of what was masked: the server's last step in Bonawitz et al. 2017, Figure 4."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.masks import shamir
from fedtransfer.common.masks.graph import Graph
from fedtransfer.common.masks.secrecy import Words, agreed, agreement_key, derived, pad, public
from fedtransfer.common.masks.session import Session


class StillMasked(Exception):
    """The sum cannot be unmasked; the text says why."""


@dataclass(frozen=True)
class Cohort:
    """The sites of a session.

    Attributes:
        session: which.
        graph: its numbers.
        names: of the sites, in order.
        keys: site → the public key of its masks.
        around: site → its neighbours, in name order.
        sharers: sites whose shares were handed on: those that masks were made with.
        asked: digest of what all were asked, and of their settings (``common_part``).
    """

    session: Session
    graph: Graph
    names: Sequence[str]
    keys: Mapping[str, bytes]
    around: Mapping[str, Sequence[str]]
    sharers: frozenset[str] = frozenset()
    asked: str = ""

    def shared_with(self, site: str) -> list[str]:
        """Return the neighbours of a site whose shares it got, in name order."""
        return [name for name in self.around[site] if name in self.sharers]

    def unmasked(self, total: Words, survivors: Sequence[str], shown: Mapping[str, NDArray[np.uint8]]) -> Words:
        """Return the sum of the survivors' numbers.

        Args:
            total: the sum of their masked vectors, modulo 2^64; it is used up.
            survivors: whose.
            shown: site → the shares that it shows, (number, 32) uint8, one for each of ``shared_with``.

        Raises:
            StillMasked: there are too few shares of some site, or false ones.
        """
        held: dict[str, dict[int, int]] = {name: {} for name in self.sharers}
        for site, rows in shown.items():
            for owner, row in zip(self.shared_with(site), rows, strict=True):
                held[owner][self.names.index(site) + 1] = int.from_bytes(row.tobytes(), "big")
        dropped = [name for name in sorted(self.sharers) if name not in survivors]
        for site in survivors:
            seed = self._secret(site, held[site]).to_bytes(shamir.BYTES, "big")
            total -= pad(derived(seed, self.session.bound("pad", site)), len(total))
        for site in dropped:
            if not (left := [name for name in self.shared_with(site) if name in survivors]):
                continue
            key = agreement_key(self._secret(site, held[site]))
            if public(key) != self.keys[site]:
                raise StillMasked(f"the shares of {site} that its neighbours showed do not give its key")
            for name in left:  # the survivor has added this mask if its name is first, else subtracted it
                bound = self.session.bound("mask", self.asked, *sorted((site, name)))
                mask = pad(agreed(key, self.keys[name], bound), len(total))
                if name < site:
                    total -= mask
                else:
                    total += mask
        return total

    def _secret(self, owner: str, shares: Mapping[int, int]) -> int:
        if len(shares) < self.graph.threshold:
            raise StillMasked(
                f"the shares of {owner} came from {len(shares)} of its neighbours, {self.graph.threshold} are needed to unmask the sum"
            )
        points = sorted(shares)[: self.graph.threshold]
        return shamir.combine({point: shares[point] for point in points})
