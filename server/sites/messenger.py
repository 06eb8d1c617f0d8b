"""Requests to sites: send, admit the answers that fit, try again after too few, report."""

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
from fedtransfer.server.callbacks import Callback, Round
from fedtransfer.server.masking.exchange import ask_masked
from fedtransfer.server.masking.unmasking import template
from fedtransfer.server.privacy.ledger import RunLedger
from fedtransfer.server.sites.admission import Answers, Terms, admit
from fedtransfer.server.sites.answer_size import group_of
from fedtransfer.server.sites.cohort import quorum
from fedtransfer.server.sites.exchange import exchange_in_groups
from fedtransfer.server.sites.federation import Federation, lines_of, wait_for_return
from fedtransfer.server.sites.public import PublicImages
from fedtransfer.server.sites.total import RunningTotal

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # before the second attempt at a round; doubled before each further attempt


@dataclass(frozen=True)
class Messenger:
    """Sends the requests of one run to its sites."""

    grid: Grid
    config: RunConfig
    federation: Federation
    terms: Terms
    folder: Path
    callbacks: Sequence[Callback]
    spending: RunLedger | None = None  # if the run promises differential privacy
    public: PublicImages | None = None  # which heads are scored on instead of the sites' images

    def ask(
        self, kind: str, answer: type[Any], number: int, requests: Mapping[str, Request],
        total: RunningTotal | None = None,
    ) -> Answers:  # fmt: skip
        """Send each site its request once, and admit the answers that fit.

        With a ``total`` their arrays are added to it as they arrive, and held nowhere else.
        """
        began = time.monotonic()
        if self.config.masks and requests:
            answers = ask_masked(self.grid, self.config, self.federation, self.terms, kind, answer, requests)
            exchanging = time.monotonic() - began
        else:
            answers, exchanging = self._exchanged(kind, answer, requests, total)
        if not (self.config.secret_cohorts and kind == TRAIN):  # else a log of a site tells who was drawn
            for site, why in answers.refused.items():
                log.warning("round %d: %s is left out: %s", number, site, why)
            if answers.failure:
                log.warning("round %d: %s", number, answers.failure)
        return replace(answers, began=began, exchanging=exchanging)

    def _exchanged(
        self, kind: str, answer: type[Any], requests: Mapping[str, Request], total: RunningTotal | None
    ) -> tuple[Answers, float]:
        """Return the answers without masks, and the seconds that their exchange took."""
        request, result, up, down = next(iter(requests.values()), None), Answers(), 0, 0
        exchanging, began = 0.0, time.monotonic()
        group = group_of(template(answer, request, self.terms)) if request else ""
        for replies in exchange_in_groups(
            self.grid, self.federation.nodes, requests, kind, self.config.round_timeout, group
        ):
            exchanging += time.monotonic() - began
            answers = admit(replies.by_site, answer, request=request, terms=self.terms)
            result.admitted.update(total.added(answers.admitted) if total else answers.admitted)
            result.refused.update(answers.refused)
            down, up = down or replies.bytes_down, max(up, replies.bytes_up)
            began = time.monotonic()
        return replace(result, bytes_down=down, bytes_up=up), exchanging

    def ask_all(
        self, kind: str, answer: type[Any], number: int, sites: Sequence[str],
        request: Callable[[str], Request], target: int = 0, *, add: bool = False,
    ) -> Answers:  # fmt: skip
        """Ask these sites. Ask those without a usable answer again while there are too few.

        Args:
            kind: message type of the requests.
            answer: protocol type of the answers.
            number: the round.
            request: makes a site's request.
            target: number of answers that is enough (0: the quorum).
            add: whether only the total of the answers' arrays is wanted.

        Raises:
            UserError: the quorum was missed in every attempt.
        """
        if self.config.masks:
            return self._ask_masked(kind, answer, number, {site: request(site) for site in sites})
        needed, missing = quorum(len(sites), min(self.config.min_sites, len(sites))), sites
        admitted: dict[str, Any] = {}
        began, up, exchanging, total = time.monotonic(), 0, 0.0, RunningTotal() if add else None
        for attempt in self.attempts(number):
            requests = {site: request(site) for site in missing}
            latest = replace(self.ask(kind, answer, number, requests, total), attempt=attempt)
            up = latest.bytes_up if latest.admitted or not admitted else up  # not the size of late refusals
            admitted |= latest.admitted
            exchanging += latest.exchanging
            missing = tuple(latest.refused)
            if len(admitted) >= max(target, needed):
                break
        if len(admitted) < needed:
            raise self.round_error(number, too_few(len(admitted), sites, needed), latest.refused)
        return replace(
            latest, admitted=dict(sorted(admitted.items())), bytes_up=up, began=began, exchanging=exchanging,
            total=total.value if total else None,
        )  # fmt: skip

    def _ask_masked(
        self, kind: str, answer: type[Any], number: int, requests: Mapping[str, Request]
    ) -> Answers:
        """Ask under masks until there is a total, and never for a second one.

        The difference of two totals over the same images would reveal the sites in one only.
        """
        for attempt in self.attempts(number):
            answers = self.ask(kind, answer, number, requests)
            if not answers.failure:
                return replace(answers, attempt=attempt)
        raise self.round_error(number, answers.failure, answers.refused)

    def attempts(self, number: int) -> Iterable[int]:
        """Count the attempts at a round from 1, and pause before each one after the first."""
        for attempt in range(1, self.config.round_retries + 2):
            if attempt > 1:
                pause = PAUSE_SECONDS * 2 ** (attempt - 2)
                log.warning("round %d: trying again in %g s", number, pause)
                time.sleep(pause)
                wait_for_return(self.grid, self.federation.nodes.values(), self.config.join_timeout)
            yield attempt

    def round_error(self, number: int, failure: str, refused: Mapping[str, str]) -> UserError:
        """Return the error that ends a run after a failed round; it says how to resume."""
        attempts = self.config.round_retries + 1
        effort = f"tried {attempts} times" if attempts > 1 else "not tried again"
        return UserError(
            f"round {number}: {failure}; {effort}. The run stops here; "
            f"its last checkpoint is in {self.folder}. Mend this, then resume the run: "
            "fedtransfer simulate --resume RUN, or fedtransfer server run --resume NAME\n" + lines_of(refused)
        )

    def total(self, answers: Iterable[Any], split: str) -> Counts:
        """Sum the counts on a split over the sites that scored a head."""
        scores = [answer for answer in answers if isinstance(answer, Scores)]
        return sum((getattr(score, split) for score in scores), Counts.empty(len(self.terms.classes)))

    def report(
        self, number: int, phase: str, planned: Sequence[str], answers: Answers, *, failure: str = "",
        best: bool = False, set_aside: Mapping[str, int] | None = None, public: Counts | None = None,
        secret: bool = False,
    ) -> None:  # fmt: skip
        """Report a round, or an attempt at one, to the callbacks; see ``Round``.

        Counts on ``public`` images replace the sites' own. With ``secret`` no seconds are reported,
        since they reveal how many sites were in the cohort.
        """
        validation, test = (self.total(answers.summands, split) for split in ("validation", "test"))
        if public is not None:
            validation, test = Counts.empty(len(self.terms.classes)), public
        seconds = math.nan if secret else time.monotonic() - answers.began
        record = Round(
            round=number, attempt=answers.attempt, phase=phase, failure=failure, planned=tuple(planned),
            answers=answers.admitted, refused=answers.refused, set_aside=dict(set_aside or {}),
            validation=validation, test=test, seconds=seconds, bytes_down=answers.bytes_down,
            bytes_up=answers.bytes_up, best=best, epsilon=self.spending.epsilon if self.spending else None,
            secret=secret, seconds_aggregating=seconds - answers.exchanging,
        )  # fmt: skip
        for callback in self.callbacks:
            callback.on_round(record)


def too_few(number: int, sites: Sequence[str], needed: int) -> str:
    """Say that a quorum was missed."""
    return f"{number} of {len(sites)} sites gave a usable answer, {needed} are needed"
