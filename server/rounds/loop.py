"""The round loop: join, prepare, R rounds of training, closing scores, delivery of the best head.

A round, as data flows: cohort → task → replies → admission → combination in site order (float64) →
strategy → next head → checkpoint, which is written while the next round trains. The scores of a
round are those of the head entering it, on the images of the sites that took part. A round with too
few usable answers changes nothing and is tried again. After too many retries the run stops, and can
be resumed.

Under differential privacy a round is charged before it begins and never tried again: it goes on
with the sites that answer.
"""

import logging
import math
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.cut import cuts
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays, deepen
from fedtransfer.common.head.schedule import layer_at, layers
from fedtransfer.common.privacy.gaussian import secret_generator
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Update
from fedtransfer.server.callbacks import Callback, Start
from fedtransfer.server.privacy.ledger import RunLedger
from fedtransfer.server.privacy.mechanism import SiteLevel, anonymous
from fedtransfer.server.rounds.after import deliver, make_personal, score
from fedtransfer.server.rounds.before import prepare_run
from fedtransfer.server.rounds.choice import federated_loss
from fedtransfer.server.rounds.progress import MOMENTS, Progress, Requests
from fedtransfer.server.run_folder.checkpoint import Checkpoints, Writer
from fedtransfer.server.run_folder.summary import Outcome
from fedtransfer.server.sites.admission import Answers, Terms
from fedtransfer.server.sites.cohort import cohort_size, draw_cohort, draw_secretly, quorum
from fedtransfer.server.sites.federation import Federation, join
from fedtransfer.server.sites.messenger import Messenger, too_few
from fedtransfer.server.sites.outliers import reaches, without_outliers
from fedtransfer.server.sites.public import public_images
from fedtransfer.server.strategies import strategy_of
from fedtransfer.server.strategies.strategy import Contribution, State, Strategy, next_head

log = logging.getLogger(__name__)


def federate(
    grid: Grid, config: RunConfig, backbone: Backbone, folder: Path, callbacks: Iterable[Callback] = (),
    rng: np.random.Generator | None = None, strategy: Strategy | None = None,
) -> Outcome:  # fmt: skip
    """Run a federation, or with ``config.resume`` the rest of one; return its outcome.

    Args:
        rng: draws secret cohorts and noise; by default nobody can repeat its draws.
        strategy: a strategy object, in place of the one that the settings name.

    Raises:
        UserError: too few sites take part, a round got too few usable answers too often, a
            checkpoint cannot be written or read, or the privacy settings are infeasible.
    """
    callbacks, strategy = list(callbacks), strategy_of(config, strategy)
    spending = RunLedger.from_config(folder, config)
    federation = join(grid, config, backbone, callbacks)
    checkpoints = Checkpoints(folder / "checkpoints", config, backbone.fingerprint, federation.classes)
    terms = Terms.from_config(config, backbone, federation.classes, federation.images)
    cuts(backbone, layers(config))  # refuses what cannot be cut, before any round
    public = public_images(config, federation.classes)
    messenger = Messenger(grid, config, federation, terms, folder, callbacks, spending, public)
    rounds = Rounds(messenger, rng or secret_generator(), strategy)
    resumed = checkpoints.latest() if config.resume else None
    done, sites = resumed.round if resumed else None, federation.everyone
    start = Start(config, folder, sites, federation.absent, federation.classes, done)
    for callback in callbacks:
        callback.on_start(start)

    def flush() -> None:
        for callback in callbacks:
            callback.flush()

    with Writer(checkpoints, flush) as writer:
        progress = resumed or rounds.begin()
        if not resumed and (progress.arrays or progress.one_shot):  # sums have travelled, once is enough
            writer.save(progress)
        while not progress.finished(config) and (not spending or spending.affords):
            if spending:  # what a round was paid for must not be lost to the next one
                writer.flush()
            progress = rounds.train(progress)
            writer.save(progress)
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
        # Strategies read from their config how many sites train: not those without training images.
        self._strategy_config = self._config.model_copy(update={"sites": len(self._federation.trainers)})
        self._reaches = reaches(messenger.federation, messenger.config)
        self.requests = Requests(messenger.config, messenger.federation)
        self._site_level: SiteLevel | None = None
        if messenger.spending and messenger.config.dp == "site":
            self._site_level = SiteLevel.from_config(messenger.config, messenger.spending.promise)

    def begin(self) -> Progress:
        """Return the progress before the first round."""
        layer = layer_at(self._config, 1)
        if self._messenger.spending and self._config.closed_form:
            self._messenger.spending.charge(0)
        head, moments, one_shot = prepare_run(self._messenger, self._messenger.terms.spec(layer))
        state = State(head, {}) if self._config.closed_form else self._start(head)
        progress = Progress.begin(state, os.urandom(8).hex(), layer)
        return replace(progress, arrays={MOMENTS: moments} if moments else {}, one_shot=one_shot)

    def train(self, progress: Progress) -> Progress:
        """Make one round of training, with retries if too few answers are usable.

        A round that costs privacy is paid for and made once, with whoever answers.
        """
        number, messenger, secret = progress.round + 1, self._messenger, self._site_level is not None
        progress = self._deepened(progress, number)
        public = messenger.public.counts(progress) if messenger.public else None
        if messenger.spending:
            messenger.spending.charge(number)
        failed = set[str]()  # sites without a usable answer in an attempt at this round
        for attempt in (1,) if messenger.spending else messenger.attempts(number):
            planned = self._cohort(progress, number, attempt, failed)
            task = self.requests.training(progress, number, self._strategy.extra(progress.state))
            answers = messenger.ask(protocol.TRAIN, Update, number, {site: task(site) for site in planned})
            answers, norm = without_outliers(answers, self._config, self._reaches, progress.update_norm)
            answers = replace(answers, attempt=attempt)
            failed |= set(answers.refused)
            failure, state = self._step(progress.state, number, answers, planned)
            after = progress
            if not secret:
                record = progress.failure_record.after(number, answers.admitted, answers.refused)
                after = replace(progress, failure_record=record)
            if state:
                if public or not messenger.spending:
                    loss = public.mean_loss if public else federated_loss(answers.summands)
                    after = after.scored(number, loss)
                after = replace(after, round=number, state=state, update_norm=norm)
                if self._config.method.control_variates:
                    counted = dict.fromkeys(answers.admitted, number)
                    after = replace(after, counted={**after.counted, **counted})
            if secret:
                planned, request = (), task(self._federation.trainers[0])
                answers = anonymous(answers, messenger, request, progress.state.head)
            messenger.report(
                number, "train", planned, answers, failure=failure, public=public, secret=secret,
                best=after.best.round > progress.best.round, set_aside=after.failure_record.set_aside(number),
            )  # fmt: skip
            if state:
                return after
            progress = after
        raise messenger.round_error(number, failure, answers.refused)

    def _deepened(self, progress: Progress, number: int) -> Progress:
        """Unfreeze the layers that a round trains first, and reset the server's optimizer."""
        layer = layer_at(self._config, number)
        if layer == progress.trainable:
            return progress
        spec = self._messenger.terms.spec
        head = deepen(progress.state.head, spec(progress.trainable), spec(layer))
        return replace(progress, state=self._start(head), trainable=layer, reference=math.inf, waited=0)

    def _start(self, head: Arrays) -> State:
        return self._strategy.start(head, self._strategy_config)

    def _cohort(
        self, progress: Progress, number: int, attempt: int, failed: Collection[str]
    ) -> tuple[str, ...]:
        """Draw from the sites that are not set aside, or from all if too few would be left.

        A further attempt draws from all that have not failed in this round, sites set aside too:
        one of these may be the only one that works.
        """
        trainers = self._federation.trainers
        if self._site_level:
            return draw_secretly(trainers, self._config.fraction, self._rng)
        size, least = cohort_size(len(trainers), self._config), max(1, self._config.min_sites)
        absent = progress.failure_record.set_aside(number) if attempt == 1 else failed
        free = [site for site in trainers if site not in absent]
        enough = len(free) >= (least if attempt == 1 else size)
        return draw_cohort(free if enough else trainers, size, self._config, number, attempt)

    def _step(
        self, before: State, number: int, answers: Answers, planned: Sequence[str]
    ) -> tuple[str, State | None]:
        """Return why the round failed, or "", and the next state, None to try again."""
        needed = quorum(len(planned), min(self._config.min_sites, len(planned)))
        paid = self._messenger.spending is not None
        if answers.failure and not paid:
            return answers.failure, None
        if len(answers.admitted) < needed and not paid:
            return too_few(len(answers.admitted), planned, needed), None
        contributions = self._contributions(answers, before.head)
        try:
            return answers.failure, next_head(self._strategy, before, contributions, self._strategy_config)
        except OverflowError as error:
            if paid:
                raise UserError(f"round {number}: {error}. The run stops here") from None
            return str(error), None

    def _contributions(self, answers: Answers, head: Arrays) -> list[Contribution]:
        """Return the updates in site order; under masks or site-level privacy their total."""
        updates: list[Update] = answers.summands
        if self._site_level:
            deltas = [update.total for update in updates]
            return [self._site_level.release(deltas, head, self._config.clip, self._rng)]
        sites = 1 if answers.total is None else len(answers.admitted)
        weighting = self._config.weights_of_sites
        return [
            Contribution(
                u.total, protocol.weight_of(weighting, u.examples, sites), u.extra.get(protocol.CONTROL, ())
            )
            for u in updates
        ]
