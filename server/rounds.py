"""The round loop, in plain sight: join, R rounds of training, one scoring round, delivery of the best head.

A round, as data flows: cohort → task → replies → admission → combination in site order (float64) → strategy → next
head → checkpoint. The scores of a round are those of the head entering it, on the images of the sites that took part.
A round with too few usable answers changes nothing and is tried again; then the run stops, and can be resumed.
"""

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from common import protocol
from common.backbone import Backbone
from common.config import RunConfig
from common.errors import UserError
from common.head import Arrays, HeadSpec, initial_head
from common.metrics import Counts
from common.protocol import Confusion, Scores, Task, Update
from server.admission import Admission, Terms, admit
from server.callbacks import Callback, Start
from server.checkpoint import Checkpoints
from server.cohort import cohort_size, draw_cohort, quorum
from server.exchange import exchange
from server.joining import Federation, join, wait_for_return
from server.progress import Candidate, Progress
from server.records import Outcome, Round
from server.strategies import strategy
from server.strategies.state import Contribution, State

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # before a round is tried again; twice as long before each further time


def federate(
    grid: Grid, config: RunConfig, backbone: Backbone, folder: Path, callbacks: Iterable[Callback] = ()
) -> Outcome:
    """Run a whole federation over ``grid``, or with ``config.resume`` the rest of one, and return its outcome.

    Raises:
        UserError: too few sites take part, a round got too few usable answers too often, or a checkpoint cannot be
            written or read.
    """
    callbacks = list(callbacks)

    def report(site: str, done: int, total: int) -> None:
        for callback in callbacks:
            callback.on_preparing(site, done, total)

    federation = join(grid, config, backbone, report)
    checkpoints = Checkpoints(folder / "checkpoints", config, backbone.fingerprint, federation.classes)
    run = _Run(grid, config, backbone, federation, folder, callbacks)
    resumed = checkpoints.latest() if config.resume else None
    start = Start(
        config, folder, federation.everyone, federation.absent, federation.classes, resumed.round if resumed else None
    )
    for callback in run.callbacks:
        callback.on_start(start)

    progress = resumed or Progress.begin(run.strategy.start(initial_head(run.terms.spec, config.seed), config))
    while not progress.finished(config):
        progress = run.train(progress)
        checkpoints.save(progress)
    best = run.close(progress)
    delivery = run.deliver(best)
    return Outcome(
        best.head, progress.state.head, federation.classes, best.round, progress.round, delivery.admitted,
        federation.descriptions, federation.absent, delivery.refused,
    )  # fmt: skip


class _Run:
    """The parts that stay the same from round to round."""

    def __init__(
        self, grid: Grid, config: RunConfig, backbone: Backbone, federation: Federation, folder: Path,
        callbacks: Sequence[Callback],
    ) -> None:  # fmt: skip
        self._grid, self._config, self._federation, self._folder = grid, config, federation, folder
        self.callbacks = callbacks
        self.strategy = strategy(config.strategy)
        spec = HeadSpec.from_config(config, backbone.features, len(federation.classes))
        self.terms = Terms(spec, federation.classes, backbone.fingerprint, config.max_update_norm, config.max_examples)

    def train(self, progress: Progress) -> Progress:
        """Make one round of training, trying again where too few answers are usable."""
        number = progress.round + 1
        for attempt in self._attempts(number):
            planned = self._cohort(progress, number, attempt)
            asked = self._ask(protocol.TRAIN, Update, number, progress.state.head, planned)
            standing = progress.standing.after(number, asked.admitted, asked.refused)
            failure, state = self._step(progress.state, asked.admission, planned)
            after = replace(progress, standing=standing)
            if not failure:
                after = after.scored(number, self._total(asked.admitted, "validation"), self._config)
                after = replace(after, round=number, state=state)
            self._report(number, attempt, "train", failure, planned, asked, progress, after)
            if not failure:
                return after
            progress = after
        raise self._given_up(number, failure, asked.refused)

    def close(self, progress: Progress) -> Candidate:
        """Have all sites score the last head; return the head to keep."""
        number, everyone = progress.round + 1, self._federation.everyone
        asked = self._ask_all(protocol.EVALUATE, Scores, number, progress.state.head, self._quorum)
        if self._partial and progress.best.round:
            # Losses of different cohorts do not compare: the best so far is scored by all sites, as the last head is.
            again = self._ask_all(protocol.EVALUATE, Scores, progress.best.round, progress.best.head, self._quorum)
            loss = self._total(again.admitted, "validation").mean_loss
            progress = replace(progress, best=replace(progress.best, loss=math.inf if math.isnan(loss) else loss))
        after = progress.scored(number, self._total(asked.admitted, "validation"), self._config)
        if math.isinf(after.best.loss):  # without any validation image, the last head it is
            after = replace(after, best=Candidate(math.inf, number, progress.state.head))
        self._report(number, asked.attempt, "score", "", everyone, asked, progress, after)
        return after.best

    def deliver(self, best: Candidate) -> Admission:
        """Hand every site the head to keep; its closing scores come back."""
        everyone = len(self._federation.everyone)
        return self._ask_all(protocol.FINISH, Confusion, best.round, best.head, everyone).admission

    @property
    def _partial(self) -> bool:
        return self._config.fraction < 1 or bool(self._config.cohort_size)

    def _cohort(self, progress: Progress, number: int, attempt: int) -> tuple[str, ...]:
        """Draw from the sites that are not set aside, or from all where too few would be left."""
        trainers = self._federation.trainers
        free = [site for site in trainers if site not in progress.standing.set_aside(number)]
        enough = len(free) >= max(1, self._config.min_sites)
        size = cohort_size(len(trainers), self._config)
        return draw_cohort(free if enough else trainers, size, self._config, number, attempt)

    def _ask(self, kind: str, answer: type[Any], number: int, head: Arrays, sites: Sequence[str]) -> "_Asked":
        began = time.monotonic()
        classes, weighting = self._federation.classes, self._config.weighting
        tasks = {site: Task(site, number, classes, head, weighting) for site in sites}
        replies = exchange(self._grid, self._federation.nodes, tasks, kind, self._config.round_timeout)
        admission = admit(replies.by_site, answer, task=next(iter(tasks.values()), None), terms=self.terms)
        for site, why in admission.refused.items():
            log.warning("round %d: %s is left out: %s", number, site, why)
        return _Asked(admission, replies.bytes_down, replies.bytes_up, began)

    @property
    def _quorum(self) -> int:
        return quorum(len(self._federation.everyone), self._config.min_sites)

    def _ask_all(self, kind: str, answer: type[Any], number: int, head: Arrays, wanted: int) -> "_Asked":
        """Ask every site, and those without a usable answer again while there are fewer than ``wanted``."""
        everyone = missing = self._federation.everyone
        admitted: dict[str, Any] = {}
        for attempt in self._attempts(number):
            asked = replace(self._ask(kind, answer, number, head, missing), attempt=attempt)
            admitted |= asked.admitted
            missing = tuple(asked.refused)
            if len(admitted) >= wanted:
                break
        if len(admitted) < self._quorum:
            raise self._given_up(number, self._too_few(len(admitted), everyone, self._quorum), asked.refused)
        complete = Admission(dict(sorted(admitted.items())), asked.refused)
        return replace(asked, admission=complete)

    def _attempts(self, number: int) -> Iterable[int]:
        for attempt in range(1, self._config.round_retries + 2):
            if attempt > 1:
                pause = PAUSE_SECONDS * 2 ** (attempt - 2)
                log.warning("round %d: trying again in %g s", number, pause)
                time.sleep(pause)
                wait_for_return(self._grid, self._federation.nodes.values(), self._config.join_timeout)
            yield attempt

    def _step(self, state: State, asked: Admission, planned: Sequence[str]) -> tuple[str, State]:
        """Return why the round failed, or "" and the next state."""
        if not planned:  # Poisson sampling drew nobody
            return "", state
        needed = quorum(len(planned), min(self._config.min_sites, len(planned)))
        if len(asked.admitted) < needed:
            return self._too_few(len(asked.admitted), planned, needed), state
        updates = [asked.admitted[site] for site in sorted(asked.admitted)]
        weighting = self._config.weighting
        contributions = [Contribution(u.total, protocol.weight_of(weighting, u.examples)) for u in updates]
        with np.errstate(over="ignore", invalid="ignore"):
            delta = self.strategy.combine(contributions, self._config)
            following: State = self.strategy.step(state, delta, self._config)
        if not all(np.isfinite(array).all() for array in following.head):
            return "the head would overflow; lower the learning rates, or set --max-update-norm", state
        return "", following

    def _too_few(self, number: int, asked: Sequence[str], needed: int) -> str:
        return f"{number} of {len(asked)} sites gave a usable answer, {needed} are needed"

    def _given_up(self, number: int, failure: str, refused: dict[str, str]) -> UserError:
        tried = f"tried {self._config.round_retries + 1} times" if self._config.round_retries else "not tried again"
        return UserError(
            f"round {number}: {failure}; {tried}. The run stops here; its last checkpoint is in {self._folder}, "
            "so it can be resumed once this is mended (fedtransfer simulate --resume RUN, or fedtransfer server run --resume NAME)\n"
            + "\n".join(f"  {site}: {why}" for site, why in refused.items())
        )

    def _total(self, scores: dict[str, Scores], split: str) -> Counts:
        return sum((getattr(scores[site], split) for site in sorted(scores)), Counts.empty(self.terms.spec.classes))

    def _report(
        self, number: int, attempt: int, phase: str, failure: str, planned: tuple[str, ...], asked: "_Asked",
        before: Progress, after: Progress,
    ) -> None:  # fmt: skip
        record = Round(
            number, attempt, phase, failure, planned, asked.admitted, asked.refused, after.standing.set_aside(number),
            self._total(asked.admitted, "validation"), self._total(asked.admitted, "test"),
            time.monotonic() - asked.began, asked.bytes_down, asked.bytes_up, after.best.round > before.best.round,
        )  # fmt: skip
        for callback in self.callbacks:
            callback.on_round(record)


@dataclass(frozen=True)
class _Asked:
    """What came of asking some sites."""

    admission: Admission
    bytes_down: int
    bytes_up: int
    began: float
    attempt: int = 1

    @property
    def admitted(self) -> dict[str, Any]:
        return self.admission.admitted

    @property
    def refused(self) -> dict[str, str]:
        return self.admission.refused
