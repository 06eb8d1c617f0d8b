"""Secure aggregation, the server's part: five exchanges, of which it learns one total over enough sites, or none.

Bonawitz et al. 2017 (doi 10.1145/3133956.3133982), Figure 4, on the graph of ``fedtransfer.common.masks.graph``. A site may fail in
any of them; as long as enough are left, the total is the sum over those whose masked answers came. An attempt that fails
ends with a reason, and another begins from fresh keys. Every wait is bounded.
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
from fedtransfer.common.masks.messages import Masked, Stage
from fedtransfer.common.masks.secrecy import SEALED, is_public
from fedtransfer.common.masks.session import Session, common_part
from fedtransfer.common.masks.vector import decode, length, places
from fedtransfer.common.wire.protocol import Answer, ProtocolError, Request
from fedtransfer.server.masking.template import template
from fedtransfer.server.masking.unmasking import Cohort, StillMasked
from fedtransfer.server.sites.admission import Admission, Terms, admit, check_total
from fedtransfer.server.sites.exchange import exchange
from fedtransfer.server.sites.federation import Federation

log = logging.getLogger(__name__)

STAGE_SECONDS = 120.0  # for what takes a site no work
_NOTHING = np.zeros(0, np.uint64)


class _TooFew(Exception):
    """An attempt has failed; the text says why."""


def ask_masked(
    grid: Grid, config: RunConfig, federation: Federation, terms: Terms, kind: str, answer: type[Any],
    requests: Mapping[str, Request],
) -> tuple[Admission, int, int]:  # fmt: skip
    """Ask sites under masks, once.

    Args:
        grid: carries the messages.
        config: the run's settings.
        federation: the sites.
        terms: what answers must fit.
        kind: message type of the requests.
        answer: what each site would answer without masks.
        requests: site → request, which differ in the site's name only.

    Returns:
        The total with the sites that it is over, or the reason why there is none; and what a message to a site and one from
        a site carry, in bytes, over all stages.
    """
    first = next(iter(requests.values()))
    session = Session(str(grid.run.run_id), first.round, kind, os.urandom(8).hex())
    attempt = _Attempt(grid, config, federation, terms, session, list(requests))
    try:
        total = attempt.total(answer, requests)
    except (_TooFew, StillMasked, ProtocolError, UserError) as error:
        present = {site: told for site, told in attempt.present.items() if site not in attempt.refused}
        return Admission(present, attempt.refused, failure=str(error)), attempt.down, attempt.up
    refused = {site: why for site, why in attempt.refused.items() if site not in attempt.present}
    return Admission(attempt.present, refused, total), attempt.down, attempt.up


@dataclass
class _Attempt:
    """One attempt: who is left of the sites ``asked``, and why the others are not."""

    grid: Grid
    config: RunConfig
    federation: Federation
    terms: Terms
    session: Session
    asked: list[str]
    present: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    down: int = 0
    up: int = 0

    def total(self, answer: type[Any], requests: Mapping[str, Request]) -> Answer:
        """Go through all stages."""
        cohort, least, peers = self._keys()
        boxes = self._boxes(cohort, least, peers)
        request = next(iter(requests.values()))
        cohort = replace(cohort, sharers=frozenset(boxes), asked=common_part(request, self.config))
        wanted = template(answer, request, self.terms)
        vectors = self._vectors(cohort, least, boxes, requests, length(wanted))
        survivors = tuple(sorted(vectors))
        total = np.zeros(length(wanted), np.uint64)
        for vector in vectors.values():
            total += vector
        self.present = {site: Masked(wanted.round, wanted.fingerprint, wanted.classes, _NOTHING) for site in survivors}
        del vectors
        shown = self._shares(cohort, survivors)
        try:
            result = decode(cohort.unmasked(total, survivors, shown), wanted, len(cohort.names), places(request))
        except ValueError as error:
            raise StillMasked(str(error)) from None
        check_total(result, request, self.terms)
        return result

    def _keys(self) -> tuple[Cohort, int, dict[str, Any]]:
        least = least_sites(len(self.asked), self.config)
        stage = {site: messages.Invitation(**self._stage(site)) for site in self.asked}
        keys = self._exchange(stage, messages.KEYS, messages.PublicKeys)
        keys = self._sound(keys, lambda site, key: is_public(key.mask) and is_public(key.box))
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

    def _boxes(self, cohort: Cohort, least: int, peers: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return sender → receiver → sealed box."""
        stage = {site: messages.Peers(**self._stage(site), **peers) for site in cohort.names}
        boxes = self._exchange(stage, messages.PEERS, messages.Boxes)
        shape = (cohort.graph.neighbours, SEALED)
        boxes = self._sound(boxes, lambda site, box: (box.sealed.dtype, box.sealed.shape) == (np.uint8, shape))
        self._need(least, boxes, "shared the secrets of their masks")
        return {site: dict(zip(cohort.around[site], told.sealed, strict=True)) for site, told in boxes.items()}

    def _vectors(
        self, cohort: Cohort, least: int, boxes: dict[str, dict[str, Any]], requests: Mapping[str, Request], size: int
    ) -> dict[str, Any]:
        sharers = tuple(sorted(boxes))
        asked = {}
        for site in sharers:
            sealed = [boxes[sender][site] for sender in cohort.shared_with(site)]
            packed = (np.stack(sealed),) if sealed else ()
            asked[site] = replace(requests[site], nonce=self.session.nonce, sharers=sharers, boxes=packed)
        answers = self._exchange(
            asked, self.session.kind, Masked, self.config.round_timeout, next(iter(asked.values()))
        )
        answers = self._sound(
            answers, lambda site, told: (told.vector.dtype, told.vector.shape) == (np.uint64, (size,))
        )
        self._need(least, answers, "answered under masks")
        return {site: told.vector for site, told in answers.items()}

    def _shares(self, cohort: Cohort, survivors: tuple[str, ...]) -> dict[str, Any]:
        stage = {site: messages.Survivors(**self._stage(site), names=survivors) for site in survivors}
        agreed = self._exchange(stage, messages.SURVIVORS, messages.Consent)
        self._need(cohort.graph.quorum, agreed, "agreed to whose answers are added up", self.present)
        signers = tuple(sorted(agreed))
        signed: dict[str, Any] = {
            "names": survivors,
            "signers": signers,
            "signatures": tuple(agreed[site].signature for site in signers),
        }
        unmasking = {site: messages.Unmasking(**self._stage(site), **signed) for site in signers}
        shown = self._exchange(unmasking, messages.UNMASK, messages.Shares)
        shown = self._sound(
            shown,
            lambda site, told: (
                (told.shares.dtype, told.shares.shape) == (np.uint8, (len(cohort.shared_with(site)), shamir.BYTES))
            ),
        )
        for site in sorted(set(self.refused) & set(survivors)):
            log.warning("%s is in the total, but has not helped to unmask it: %s", site, self.refused[site])
        return {site: told.shares for site, told in shown.items()}

    def _stage(self, site: str) -> dict[str, Any]:
        return vars(self.session) | {"site": site}

    def _exchange(
        self, contents: Mapping[str, Stage | Request], kind: str, answer: type[Any], seconds: float = STAGE_SECONDS,
        request: Request | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Send each site its part of a stage; return the answers, and note who gave none."""
        seconds = min(seconds, self.config.round_timeout)
        replies = exchange(self.grid, self.federation.nodes, contents, kind, seconds)
        admission = admit(replies.by_site, answer, request=request, terms=self.terms if request else None)
        self.down, self.up = self.down + replies.bytes_down, self.up + replies.bytes_up
        self.refused |= admission.refused
        return admission.admitted

    def _sound(self, answers: dict[str, Any], fits: Callable[[str, Any], bool]) -> dict[str, Any]:
        wrong = [site for site in answers if not fits(site, answers[site])]
        self.refused |= dict.fromkeys(wrong, "sent a part of its masks of another shape than it must have")
        return {site: told for site, told in answers.items() if site not in wrong}

    def _need(self, least: int, answers: Mapping[str, Any], did: str, among: Mapping[str, Any] | None = None) -> None:
        if among is None:
            self.present = dict(answers)
        if len(answers) < least:
            raise _TooFew(f"{len(answers)} of {len(among or self.asked)} sites {did}, {least} are needed")
