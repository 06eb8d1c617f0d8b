"""From masked vectors and shares to their sum, the last step in Bonawitz et al. 2017, Figure 4."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.masks import shamir
from fedtransfer.common.masks.graph import Graph
from fedtransfer.common.masks.messages import Session
from fedtransfer.common.masks.secrecy import Words, agreed, agreement_key, derived, pad, public


class StillMasked(Exception):
    """The sum cannot be unmasked; the text says why."""


@dataclass(frozen=True)
class Cohort:
    """The sites of a session.

    Attributes:
        session: the session.
        graph: neighbours, threshold and quorum of its graph.
        names: the sites, in name order.
        keys: site → the public key of its masks.
        around: site → its neighbours, in name order.
        sharers: the sites whose shares were passed on, so that others share masks with them.
        request_digest: hash of the part of the request common to all sites, settings included
            (``common_part``).
    """

    session: Session
    graph: Graph
    names: Sequence[str]
    keys: Mapping[str, bytes]
    around: Mapping[str, Sequence[str]]
    sharers: frozenset[str] = frozenset()
    request_digest: str = ""

    def shared_with(self, site: str) -> list[str]:
        """Return the neighbours whose shares a site received, in name order."""
        return [name for name in self.around[site] if name in self.sharers]

    def unmask(self, total: Words, survivors: Sequence[str], shares: Mapping[str, NDArray[np.uint8]]) -> Words:
        """Return the sum of the survivors' vectors.

        Args:
            total: the sum of their masked vectors, modulo 2^64; changed in place.
            survivors: the sites whose masked vectors are in ``total``.
            shares: site → the shares that it revealed, (number, 32) uint8, in the order of
                ``shared_with``.

        Raises:
            StillMasked: a site has too few shares, or false ones.
        """
        points: dict[str, dict[int, int]] = {name: {} for name in self.sharers}
        for site, rows in shares.items():
            for owner, row in zip(self.shared_with(site), rows, strict=True):
                points[owner][self.names.index(site) + 1] = int.from_bytes(row.tobytes(), "big")
        dropped = [name for name in sorted(self.sharers) if name not in survivors]
        for site in survivors:
            seed = self._secret(site, points[site]).to_bytes(shamir.BYTES, "big")
            total -= pad(derived(seed, self.session.context("pad", site)), len(total))
        for site in dropped:
            if not (neighbours := [name for name in self.shared_with(site) if name in survivors]):
                continue
            key = agreement_key(self._secret(site, points[site]))
            if public(key) != self.keys[site]:
                raise StillMasked(f"the shares of {site} that its neighbours revealed do not give its key")
            for name in neighbours:  # the survivor added this mask if its name is first, else subtracted it
                context = self.session.context("mask", self.request_digest, *sorted((site, name)))
                mask = pad(agreed(key, self.keys[name], context), len(total))
                if name < site:
                    total -= mask
                else:
                    total += mask
        return total

    def _secret(self, owner: str, shares: Mapping[int, int]) -> int:
        if len(shares) < self.graph.threshold:
            raise StillMasked(
                f"the shares of {owner} came from {len(shares)} of its neighbours, {self.graph.threshold} "
                "are needed to unmask the sum"
            )
        points = sorted(shares)[: self.graph.threshold]
        return shamir.combine({point: shares[point] for point in points})
