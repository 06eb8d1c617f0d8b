"""The server's part of secure aggregation: five exchanges that reveal one total over enough sites.

Bonawitz et al. 2017 (doi 10.1145/3133956.3133982), Figure 4, on the graph of
``fedtransfer.common.masks.graph``. A site may fail in any exchange. While enough sites remain, the
total is the sum over those whose masked answers arrived. An attempt that fails reveals nothing and
ends with a reason; the next attempt begins from fresh keys. Every wait is bounded.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.masks import messages, shamir
from fedtransfer.common.masks.graph import graph, least_sites
from fedtransfer.common.masks.messages import Masked, Session, Stage, common_part
from fedtransfer.common.masks.secrecy import SEALED, is_public
from fedtransfer.common.masks.vector import decode, length, places
from fedtransfer.common.wire.protocol import Answer, ProtocolError, Request
from fedtransfer.server.masking.unmasking import Cohort, StillMasked, template
from fedtransfer.server.sites.admission import Answers, Terms, admit, check_total
from fedtransfer.server.sites.answer_size import group_of
from fedtransfer.server.sites.exchange import exchange
from fedtransfer.server.sites.federation import Federation

log = logging.getLogger(__name__)

STAGE_SECONDS = 120.0  # for a stage in which a site neither trains nor scores
_NOTHING = np.zeros(0, np.uint64)
_Boxes = dict[str, dict[str, Any]]  # sender → receiver → sealed box


class _TooFew(Exception):
    """Too few sites are left; the text says at which stage."""


def ask_masked(
    grid: Grid, config: RunConfig, federation: Federation, terms: Terms, kind: str, answer: type[Any],
    requests: Mapping[str, Request],
) -> Answers:  # fmt: skip
    """Make one attempt at a total under masks.

    Args:
        grid, config, federation, terms: of the run.
        kind: message type of the requests.
        answer: protocol type of the answer that a site would give without masks.
        requests: site → its request; they differ in the site's name only.

    Returns:
        The total and the sites in it, or the reason why there is no total. ``bytes_down`` and
        ``bytes_up`` are those of all stages.
    """
    first = next(iter(requests.values()))
    session = Session(str(grid.run.run_id), first.round, kind, os.urandom(8).hex())
    attempt = _Attempt(grid, config, federation, terms, session, list(requests))
    try:
        total = attempt.total(answer, requests)
    except (_TooFew, StillMasked, ProtocolError, UserError) as error:
        present = {site: reply for site, reply in attempt.present.items() if site not in attempt.refused}
        return Answers(present, attempt.refused, None, str(error), attempt.down, attempt.up)
    refused = {site: why for site, why in attempt.refused.items() if site not in attempt.present}
    return Answers(attempt.present, refused, total, "", attempt.down, attempt.up)


@dataclass
class _Attempt:
    """One attempt over ``sites``: those still ``present``, and why the others are ``refused``."""

    grid: Grid
    config: RunConfig
    federation: Federation
    terms: Terms
    session: Session
    sites: list[str]
    present: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    down: int = 0
    up: int = 0

    def total(self, answer: type[Any], requests: Mapping[str, Request]) -> Answer:
        """Go through all stages; return the unmasked total."""
        cohort, least, peers = self._keys()
        boxes = self._boxes(cohort, least, peers)
        request = next(iter(requests.values()))
        cohort = replace(cohort, sharers=frozenset(boxes), request_digest=common_part(request, self.config))
        zeros = template(answer, request, self.terms)
        vectors = self._vectors(cohort, least, boxes, requests, zeros)
        survivors = tuple(sorted(vectors))
        total = np.zeros(length(zeros), np.uint64)
        for vector in vectors.values():
            total += vector
        self.present = {
            site: Masked(zeros.round, zeros.fingerprint, zeros.classes, _NOTHING) for site in survivors
        }
        del vectors
        shares = self._shares(cohort, survivors)
        try:
            result = decode(
                cohort.unmask(total, survivors, shares), zeros, len(cohort.names), places(request)
            )
        except ValueError as error:
            raise StillMasked(str(error)) from None
        check_total(result, request, self.terms)
        return result

    def _keys(self) -> tuple[Cohort, int, dict[str, Any]]:
        least = least_sites(len(self.sites), self.config)
        stage = {site: messages.Invitation(**self._stage(site)) for site in self.sites}
        keys = self._exchange(stage, messages.KEYS, messages.PublicKeys)
        keys = self._well_formed(keys, lambda site, key: is_public(key.mask) and is_public(key.box))
        self._need(least, keys, "gave keys for masks")
        names = tuple(sorted(keys))
        numbers = graph(len(names), self.config)
        peers = {
            "names": names,
            "masks": tuple(keys[name].mask for name in names),
            "boxes": tuple(keys[name].box for name in names),
            "signatures": tuple(keys[name].signature for name in names),
            "enrolled": tuple(self.federation.keys.get(name, "") for name in names),
        }
        ring = numbers.ring(names, self.session.order(peers["masks"], peers["boxes"]))
        around = {name: ring.around(name) for name in names}
        public = {name: bytes.fromhex(keys[name].mask) for name in names}
        return Cohort(self.session, numbers, names, public, around), max(least, numbers.least), peers

    def _boxes(self, cohort: Cohort, least: int, peers: dict[str, Any]) -> _Boxes:
        stage = {site: messages.Peers(**self._stage(site), **peers) for site in cohort.names}
        boxes = self._exchange(stage, messages.PEERS, messages.Boxes)
        shape = (cohort.graph.neighbours, SEALED)
        boxes = self._well_formed(boxes, lambda site, reply: _is(reply.sealed, np.uint8, shape))
        self._need(least, boxes, "shared the secrets of their masks")
        return {
            site: dict(zip(cohort.around[site], reply.sealed, strict=True)) for site, reply in boxes.items()
        }

    def _vectors(
        self, cohort: Cohort, least: int, boxes: _Boxes, requests: Mapping[str, Request], zeros: Answer
    ) -> dict[str, Any]:
        sharers = tuple(sorted(boxes))
        masked = {}
        for site in sharers:
            sealed = [boxes[sender][site] for sender in cohort.shared_with(site)]
            packed = (np.stack(sealed),) if sealed else ()
            masked[site] = replace(requests[site], nonce=self.session.nonce, sharers=sharers, boxes=packed)
        request = next(iter(masked.values()))
        seconds, size = self.config.round_timeout, length(zeros)
        answers = self._exchange(masked, self.session.kind, Masked, seconds, request, group_of(zeros))
        answers = self._well_formed(answers, lambda site, reply: _is(reply.vector, np.uint64, (size,)))
        self._need(least, answers, "answered under masks")
        return {site: reply.vector for site, reply in answers.items()}

    def _shares(self, cohort: Cohort, survivors: tuple[str, ...]) -> dict[str, Any]:
        stage = {site: messages.Survivors(**self._stage(site), names=survivors) for site in survivors}
        consents = self._exchange(stage, messages.SURVIVORS, messages.Consent)
        self._need(cohort.graph.quorum, consents, "agreed to the list of sites in the total", self.present)
        signers = tuple(sorted(consents))
        signatures = tuple(consents[site].signature for site in signers)
        unmasking = {
            site: messages.Unmasking(
                **self._stage(site), names=survivors, signers=signers, signatures=signatures
            )
            for site in signers
        }
        replies = self._exchange(unmasking, messages.UNMASK, messages.Shares)
        shape = {site: (len(cohort.shared_with(site)), shamir.BYTES) for site in replies}
        replies = self._well_formed(replies, lambda site, reply: _is(reply.shares, np.uint8, shape[site]))
        for site in sorted(set(self.refused) & set(survivors)):
            log.warning("%s is in the total, but did not help to unmask it: %s", site, self.refused[site])
        return {site: reply.shares for site, reply in replies.items()}

    def _stage(self, site: str) -> dict[str, Any]:
        return vars(self.session) | {"site": site}

    def _exchange(
        self, contents: Mapping[str, Stage | Request], kind: str, answer: type[Any],
        seconds: float = STAGE_SECONDS, request: Request | None = None, group_id: str = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Send each site its part of a stage; return admitted answers, record refusals."""
        seconds = min(seconds, self.config.round_timeout)
        replies = exchange(self.grid, self.federation.nodes, contents, kind, seconds, group_id)
        answers = admit(replies.by_site, answer, request=request, terms=self.terms if request else None)
        self.down, self.up = self.down + replies.bytes_down, self.up + replies.bytes_up
        self.refused |= answers.refused
        return answers.admitted

    def _well_formed(self, answers: dict[str, Any], fits: Callable[[str, Any], bool]) -> dict[str, Any]:
        wrong = [site for site in answers if not fits(site, answers[site])]
        self.refused |= dict.fromkeys(wrong, "sent keys, boxes, a vector or shares of the wrong shape")
        return {site: reply for site, reply in answers.items() if site not in wrong}

    def _need(
        self, least: int, answers: Mapping[str, Any], did: str, among: Mapping[str, Any] | None = None
    ) -> None:
        if among is None:
            self.present = dict(answers)
        if len(answers) < least:
            raise _TooFew(f"{len(answers)} of {len(among or self.sites)} sites {did}, {least} are needed")


def _is(array: Any, dtype: type[Any], shape: tuple[int, ...]) -> bool:
    return (array.dtype, array.shape) == (dtype, shape)
