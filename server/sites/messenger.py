"""Asking sites something: send, wait, let in what fits, try again where too little came, and tell who looks on."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import TRAIN, Request, Scores
from fedtransfer.server.callbacks import Callback
from fedtransfer.server.masking.exchange import ask_masked
from fedtransfer.server.privacy.ledger import RunLedger
from fedtransfer.server.run_folder.records import Round
from fedtransfer.server.sites.admission import Admission, Terms, admit
from fedtransfer.server.sites.cohort import quorum
from fedtransfer.server.sites.exchange import exchange
from fedtransfer.server.sites.federation import Federation, wait_for_return
from fedtransfer.server.sites.public import PublicImages

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # before a round is tried again; twice as long before each further time


@dataclass(frozen=True)
class Asked:
    """What came of asking some sites.

    Attributes:
        admission: the answers let in, and why the others are not.
        bytes_down, bytes_up: what a message to a site carries, and one from a site, in bytes.
        began: ``time.monotonic()`` when they were sent.
        exchanging: seconds until the replies were there; under masks until they were unmasked.
        attempt: 1, or more where it had to be tried again.
    """

    admission: Admission
    bytes_down: int
    bytes_up: int
    began: float
    exchanging: float
    attempt: int = 1

    @property
    def admitted(self) -> dict[str, Any]:
        """Site → its answer."""
        return self.admission.admitted

    @property
    def answers(self) -> list[Any]:
        """What adds up to the whole."""
        return self.admission.answers

    @property
    def refused(self) -> dict[str, str]:
        """Site → why it is left out."""
        return self.admission.refused


@dataclass(frozen=True)
class Asker:
    """What stays the same however often sites are asked.

    Attributes:
        spending: what is spent, where the run promises differential privacy.
        public: the images that heads are scored on in place of the sites' own.
    """

    grid: Grid
    config: RunConfig
    federation: Federation
    terms: Terms
    folder: Path
    callbacks: Sequence[Callback]
    spending: RunLedger | None = None
    public: PublicImages | None = None

    def ask(self, kind: str, answer: type[Any], number: int, requests: Mapping[str, Request]) -> Asked:
        """Send each site its request, and let in the answers that fit."""
        began = time.monotonic()
        if self.config.masks and requests:
            admission, down, up = ask_masked(
                self.grid, self.config, self.federation, self.terms, kind, answer, requests
            )
            exchanging = time.monotonic() - began
            self._warn(number, kind, admission)
            return Asked(admission, down, up, began, exchanging)
        replies = exchange(self.grid, self.federation.nodes, requests, kind, self.config.round_timeout)
        exchanging = time.monotonic() - began
        admission = admit(replies.by_site, answer, request=next(iter(requests.values()), None), terms=self.terms)
        self._warn(number, kind, admission)
        return Asked(admission, replies.bytes_down, replies.bytes_up, began, exchanging)

    def ask_all(
        self, kind: str, answer: type[Any], number: int, sites: Sequence[str], request: Callable[[str], Request],
        wanted: int = 0,
    ) -> Asked:  # fmt: skip
        """Ask these sites, and those without a usable answer again while there are fewer than ``wanted``.

        Args:
            kind: of the message.
            answer: what may answer it.
            number: the round.
            sites: who is asked.
            request: makes a site's request.
            wanted: so many answers end it (0: the quorum).

        Raises:
            UserError: there are fewer usable answers than the quorum, however often it was tried.
        """
        if self.config.masks:
            return self._ask_together(kind, answer, number, {site: request(site) for site in sites})
        needed, missing = quorum(len(sites), min(self.config.min_sites, len(sites))), sites
        admitted: dict[str, Any] = {}
        began, up, exchanging = time.monotonic(), 0, 0.0
        for attempt in self.attempts(number):
            asked = replace(self.ask(kind, answer, number, {site: request(site) for site in missing}), attempt=attempt)
            up = asked.bytes_up if asked.admitted or not admitted else up  # not that of late refusals
            admitted |= asked.admitted
            exchanging += asked.exchanging
            missing = tuple(asked.refused)
            if len(admitted) >= max(wanted, needed):
                break
        if len(admitted) < needed:
            raise self.given_up(number, too_few(len(admitted), sites, needed), asked.refused)
        return replace(
            asked,
            admission=Admission(dict(sorted(admitted.items())), asked.refused),
            bytes_up=up,
            began=began,
            exchanging=exchanging,
        )

    def _warn(self, number: int, kind: str, admission: Admission) -> None:
        if self.config.secret_cohorts and kind == TRAIN:
            return  # a log that names a site tells who was drawn
        for site, why in admission.refused.items():
            log.warning("round %d: %s is left out: %s", number, site, why)
        if admission.failure:
            log.warning("round %d: %s", number, admission.failure)

    def _ask_together(self, kind: str, answer: type[Any], number: int, requests: Mapping[str, Request]) -> Asked:
        """Ask under masks until there is a total, and never for a second one: how two totals of the same images differ would
        tell of the sites that are in one of them only."""
        for attempt in self.attempts(number):
            asked = replace(self.ask(kind, answer, number, requests), attempt=attempt)
            if not asked.admission.failure:
                return asked
        raise self.given_up(number, asked.admission.failure, asked.refused)

    def attempts(self, number: int) -> Iterable[int]:
        """Count the attempts at a round from 1, with a pause before each further one."""
        for attempt in range(1, self.config.round_retries + 2):
            if attempt > 1:
                pause = PAUSE_SECONDS * 2 ** (attempt - 2)
                log.warning("round %d: trying again in %g s", number, pause)
                time.sleep(pause)
                wait_for_return(self.grid, self.federation.nodes.values(), self.config.join_timeout)
            yield attempt

    def given_up(self, number: int, failure: str, refused: Mapping[str, str]) -> UserError:
        """Say that a round failed for good, and how to go on."""
        tried = f"tried {self.config.round_retries + 1} times" if self.config.round_retries else "not tried again"
        return UserError(
            f"round {number}: {failure}; {tried}. The run stops here; its last checkpoint is in {self.folder}, "
            "so it can be resumed once this is mended (fedtransfer simulate --resume RUN, or fedtransfer server run --resume NAME)\n"
            + "\n".join(f"  {site}: {why}" for site, why in refused.items())
        )

    def total(self, answers: Iterable[Any], split: str) -> Counts:
        """Sum the counts on a split over the sites that scored a head."""
        scores = [answer for answer in answers if isinstance(answer, Scores)]
        return sum((getattr(score, split) for score in scores), Counts.empty(len(self.terms.classes)))

    def report(
        self, number: int, phase: str, planned: Sequence[str], asked: Asked, *, failure: str = "", best: bool = False,
        set_aside: Mapping[str, int] | None = None, public: Counts | None = None, secret: bool = False,
    ) -> None:  # fmt: skip
        """Tell the callbacks how a round, or an attempt at one, went.

        ``public`` takes the place of the sites' own scores; ``secret``: who was asked, and how many, may not be told, nor how
        long it took, which tells how many.
        """
        validation, test = (self.total(asked.answers, split) for split in ("validation", "test"))
        if public is not None:
            validation, test = Counts.empty(len(self.terms.classes)), public
        seconds = math.nan if secret else time.monotonic() - asked.began
        record = Round(
            number, asked.attempt, phase, failure, tuple(planned), asked.admitted, asked.refused, dict(set_aside or {}),
            validation, test, seconds, asked.bytes_down, asked.bytes_up, best, self.spending.epsilon if self.spending else None,
            secret, seconds - asked.exchanging,
        )  # fmt: skip
        for callback in self.callbacks:
            callback.on_round(record)


def too_few(number: int, asked: Sequence[str], needed: int) -> str:
    """Say that a quorum was missed."""
    return f"{number} of {len(asked)} sites gave a usable answer, {needed} are needed"
