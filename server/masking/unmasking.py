"""From masked vectors and shares to their sum, the last step in Bonawitz et al. 2017, Figure 4.

``template`` gives the fields, shapes and dtypes of the answer into which the sum is decoded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.masks import shamir
from fedtransfer.common.masks.graph import Graph
from fedtransfer.common.masks.messages import Session
from fedtransfer.common.masks.secrecy import Words, agreed, agreement_key, derived, pad, public
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Answer, Request
from fedtransfer.common.wire.sums import layout
from fedtransfer.server.sites.admission import Terms


class StillMasked(Exception):
    """The sum cannot be unmasked; the text says why."""


@dataclass(frozen=True)
class Cohort:
    """The sites of a session."""

    session: Session
    graph: Graph  # its neighbours, threshold and quorum
    names: Sequence[str]  # the sites, in name order
    keys: Mapping[str, bytes]  # site → the public key of its masks
    around: Mapping[str, Sequence[str]]  # site → its neighbours, in name order
    sharers: frozenset[str] = frozenset()  # whose shares were passed on, so that others share masks with them
    request_digest: str = ""  # ``common_part``: of what is common to all sites' requests, settings included

    def shared_with(self, site: str) -> list[str]:
        """Return the neighbours whose shares a site received, in name order."""
        return [name for name in self.around[site] if name in self.sharers]

    def unmask(
        self, total: Words, survivors: Sequence[str], shares: Mapping[str, NDArray[np.uint8]]
    ) -> Words:
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
            came = f"the shares of {owner} came from {len(shares)} of its neighbours"
            raise StillMasked(f"{came}, {self.graph.threshold} are needed to unmask the sum")
        points = sorted(shares)[: self.graph.threshold]
        return shamir.combine({point: shares[point] for point in points})


def template(answer: type[Any], request: Request, terms: Terms) -> Answer:
    """Return an all-zero answer of type ``answer``, of the shapes that ``request`` calls for."""
    classes = len(terms.classes)
    heading = (request.round, terms.fingerprint, protocol.classes_digest(terms.classes))
    scores = (*heading, Counts.empty(classes), Counts.empty(classes))
    if isinstance(request, protocol.Task):
        head = _zeros([("float32", shape) for shape in terms.spec(request.trainable).shapes])
        extra = {protocol.CONTROL: head} if protocol.CONTROL in request.extra else {}
        templates: dict[type[Any], Answer] = {
            protocol.Scores: protocol.Scores(*scores),
            protocol.Update: protocol.Update(*scores, 0, head, extra),
            protocol.Confusion: protocol.Confusion(*scores, np.zeros((classes, classes), np.int64)),
            protocol.Personal: protocol.Personal(*heading, 0, np.zeros(4, np.int64), 0.0),
        }
        return templates[answer]
    if isinstance(request, protocol.Gather):
        width = terms.widths[0 if request.what == "moments" else 1]
        return protocol.Sums(*heading, 0, _zeros(layout(request.what, width, classes)))
    if isinstance(request, protocol.Trial):
        return protocol.Tally(*heading, 0, np.zeros((len(request.heads), len(request.factors))))
    raise TypeError(f"no answer {answer.__name__} to {type(request).__name__}")


def _zeros(arrays: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[NDArray[Any], ...]:
    return tuple(np.zeros(shape, dtype) for dtype, shape in arrays)
