"""The round loop: join, prepare, R rounds of training, closing scores, delivery of the best head.

A round, as data flows: cohort → task → replies → admission → combination in site order (float64) →
strategy → next head → checkpoint. The scores of a round are those of the head entering it, on the
images of the sites that took part. A round with too few usable answers changes nothing and is tried
again. After too many retries the run stops, and can be resumed.

Under differential privacy a round is charged before it begins and never tried again: it goes on
with the sites that answer.
"""

import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.cut import cuts
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays, deepen
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.head.schedule import layer_at, layers
from fedtransfer.common.privacy.gaussian import secret_generator
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Update
from fedtransfer.server.callbacks import Callback, Start
from fedtransfer.server.privacy.ledger import RunLedger
from fedtransfer.server.privacy.mechanism import SiteLevel, anonymous
from fedtransfer.server.rounds.after import deliver, make_personal, score
from fedtransfer.server.rounds.before import prepare_run
from fedtransfer.server.rounds.progress import MOMENTS, Progress
from fedtransfer.server.rounds.tasks import Requests
from fedtransfer.server.run_folder.checkpoint import Checkpoints
from fedtransfer.server.run_folder.records import Outcome
from fedtransfer.server.sites.admission import Answers, Terms
from fedtransfer.server.sites.cohort import cohort_size, draw_cohort, draw_secretly, quorum
from fedtransfer.server.sites.federation import Federation, join
from fedtransfer.server.sites.messenger import Messenger, too_few
from fedtransfer.server.sites.public import public_images
from fedtransfer.server.strategies import strategy_of
from fedtransfer.server.strategies.strategy import Contribution, State, Strategy, next_head

log = logging.getLogger(__name__)


def federate(
    grid: Grid, config: RunConfig, backbone: Backbone, folder: Path, callbacks: Iterable[Callback] = (),
    rng: np.random.Generator | None = None, strategy: Strategy | None = None,
) -> Outcome:  # fmt: skip
    """Run a federation over ``grid``, or with ``config.resume`` the rest of one; return its outcome.

    Args:
        rng: draws secret cohorts and noise; by default nobody can repeat its draws.
        strategy: a strategy object, in place of the one that the settings name.

    Raises:
        UserError: too few sites take part, a round got too few usable answers too often, a checkpoint
            cannot be written or read, or the privacy settings are infeasible.
    """
    callbacks, strategy = list(callbacks), strategy_of(config, strategy)
    spending = RunLedger.from_config(folder, config)

    def report(site: str, done: int, total: int) -> None:
        for callback in callbacks:
            callback.on_preparing(site, done, total)

    def waiting(connected: Sequence[str], seconds: float) -> None:
        for callback in callbacks:
            callback.on_waiting(connected, config.participants, seconds)

    federation = join(grid, config, backbone, report, waiting)
    checkpoints = Checkpoints(folder / "checkpoints", config, backbone.fingerprint, federation.classes)
    terms = Terms.from_config(config, backbone, federation.classes)
    cuts(backbone, layers(config))  # refuses what cannot be cut, before any round
    public = public_images(config, federation.classes)
    messenger = Messenger(grid, config, federation, terms, folder, callbacks, spending, public)
    rounds = Rounds(messenger, rng or secret_generator(), strategy)
    resumed = checkpoints.latest() if config.resume else None
    start = Start(
        config, folder, federation.everyone, federation.absent, federation.classes, resumed.round if resumed else None
    )
    for callback in callbacks:
        callback.on_start(start)

    progress = resumed or rounds.begin()
    if not resumed and (progress.arrays or progress.one_shot):  # sums have travelled: they need not do so again
        checkpoints.save(progress)
    while not progress.finished(config) and (not spending or spending.affords):
        progress = rounds.train(progress)
        checkpoints.save(progress)
    stopped = not progress.finished(config)
    if stopped:
        log.warning(
            "the run stops after round %d of %d: one more would spend more than %s",
            progress.round, config.rounds, spending.limit if spending else "",
        )  # fmt: skip

    best = score(messenger, rounds.requests, progress)
    delivery = deliver(messenger, rounds.requests, progress, best)
    personal = make_personal(messenger, rounds.requests, progress, best) if config.adaptation_epochs else {}
    return Outcome(
        best, progress, federation, {} if config.masks else delivery.admitted, delivery.refused, personal,
        spending.summary(stopped=stopped) if spending else {},
        (public.counts(progress, best), public.matrix(progress, best)) if public else None, delivery.total,
    )  # fmt: skip


class Rounds:
    """The rounds of training of one run."""

    def __init__(self, messenger: Messenger, rng: np.random.Generator, strategy: Strategy) -> None:
        self._messenger, self._config, self._rng = messenger, messenger.config, rng
        self._federation: Federation = messenger.federation
        self._strategy = strategy
        # Strategies read from their config how many sites train, which are fewer if some have no
        # training image.
        self._strategy_config = messenger.config.model_copy(update={"sites": len(messenger.federation.trainers)})
        self.requests = Requests(messenger.config, messenger.federation)
        self._site_level: SiteLevel | None = None
        if messenger.spending and messenger.config.dp == "site":
            self._site_level = SiteLevel.from_config(messenger.config, messenger.spending.promise)

    def begin(self) -> Progress:
        """Return the progress before the first round, with a one-shot head if the run begins with one."""
        layer = layer_at(self._config, 1)
        if self._messenger.spending and self._config.closed_form:
            self._messenger.spending.charge(0)
        start = prepare_run(self._messenger, self._messenger.terms.spec(layer))
        state = State(start.head, {}) if self._config.closed_form else self._start(start.head)
        progress = Progress.begin(state, os.urandom(8).hex(), layer)
        arrays = {MOMENTS: start.moments} if start.moments else {}
        return replace(progress, arrays=arrays, one_shot=start.one_shot)

    def train(self, progress: Progress) -> Progress:
        """Make one round of training, with retries if too few answers are usable."""
        number = progress.round + 1
        progress = self._deepened(progress, number)
        public = self._messenger.public.counts(progress) if self._messenger.public else None
        if self._messenger.spending:
            self._messenger.spending.charge(number)
            return self._train_once(progress, number, public)
        for attempt in self._messenger.attempts(number):
            planned = self._cohort(progress, number, attempt)
            task = self.requests.training(progress, number, self._strategy.extra(progress.state))
            answers = self._messenger.ask(protocol.TRAIN, Update, number, {site: task(site) for site in planned})
            answers = replace(answers, attempt=attempt)
            record = progress.failure_record.after(number, answers.admitted, answers.refused)
            failure, state = self._step(progress.state, answers, planned)
            after = replace(progress, failure_record=record)
            if not failure:
                scores = public or self._messenger.total(answers.summands, "validation")
                after = after.scored(number, scores, self._config)
                after = replace(after, round=number, state=state)
                if self._config.method.control_variates:
                    after = replace(after, counted={**after.counted, **dict.fromkeys(answers.admitted, number)})
            self._messenger.report(
                number, "train", planned, answers, failure=failure, best=after.best.round > progress.best.round,
                set_aside=after.failure_record.set_aside(number), public=public,
            )  # fmt: skip
            if not failure:
                return after
            progress = after
        raise self._messenger.round_error(number, failure, answers.refused)

    def _train_once(self, progress: Progress, number: int, public: Counts | None) -> Progress:
        """Make one round of training that has been paid for, with whoever answers."""
        secret = self._site_level is not None
        trainers = self._federation.trainers
        planned = (
            draw_secretly(trainers, self._config.fraction, self._rng) if secret else self._cohort(progress, number, 1)
        )
        task = self.requests.training(progress, number, self._strategy.extra(progress.state))
        answers = self._messenger.ask(protocol.TRAIN, Update, number, {site: task(site) for site in planned})
        if self._site_level:
            deltas = [answer.total for answer in answers.summands]
            contributions = [self._site_level.release(deltas, progress.state.head, self._config.clip, self._rng)]
            report = anonymous(answers, self._messenger, task(trainers[0]), progress.state.head)
        else:
            contributions, report = self._contributions(answers), answers
            record = progress.failure_record.after(number, answers.admitted, answers.refused)
            progress = replace(progress, failure_record=record)
        try:
            state = next_head(self._strategy, progress.state, contributions, self._strategy_config)
        except OverflowError as error:
            raise UserError(f"round {number}: {error}. The run stops here") from None
        after = progress.scored(number, public, self._config) if public else progress
        after = replace(after, round=number, state=state)
        self._messenger.report(
            number, "train", () if secret else planned, report, failure=answers.failure, best=after.best.round > progress.best.round,
            set_aside={} if secret else after.failure_record.set_aside(number), public=public, secret=secret,
        )  # fmt: skip
        return after

    def _deepened(self, progress: Progress, number: int) -> Progress:
        """Unfreeze the layers that a round is the first to train, and reset the server's optimizer."""
        layer = layer_at(self._config, number)
        if layer == progress.trainable:
            return progress
        spec = self._messenger.terms.spec
        head = deepen(progress.state.head, spec(progress.trainable), spec(layer))
        return replace(progress, state=self._start(head), trainable=layer, reference=math.inf, waited=0)

    def _start(self, head: Arrays) -> State:
        return self._strategy.start(head, self._strategy_config)

    def _cohort(self, progress: Progress, number: int, attempt: int) -> tuple[str, ...]:
        """Draw from the sites that are not set aside, or from all where too few would be left."""
        trainers = self._federation.trainers
        free = [site for site in trainers if site not in progress.failure_record.set_aside(number)]
        enough = len(free) >= max(1, self._config.min_sites)
        size = cohort_size(len(trainers), self._config)
        return draw_cohort(free if enough else trainers, size, self._config, number, attempt)

    def _step(self, state: State, answers: Answers, planned: Sequence[str]) -> tuple[str, State]:
        """Return why the round failed, or "", and the next state."""
        needed = quorum(len(planned), min(self._config.min_sites, len(planned)))
        if answers.failure:
            return answers.failure, state
        if len(answers.admitted) < needed:
            return too_few(len(answers.admitted), planned, needed), state
        try:
            return "", next_head(self._strategy, state, self._contributions(answers), self._strategy_config)
        except OverflowError as error:
            return str(error), state

    def _contributions(self, answers: Answers) -> list[Contribution]:
        """Return the sites' updates in site order, or under masks their total, with the weight of all."""
        updates: list[Update] = answers.summands
        sites, weighting = 1 if answers.total is None else len(answers.admitted), self._config.weights_of_sites
        return [
            Contribution(u.total, protocol.weight_of(weighting, u.examples, sites), u.extra.get(protocol.CONTROL, ()))
            for u in updates
        ]
