"""The round loop, in plain sight: join, open, R rounds of training, closing scores, delivery of the best head.

A round, as data flows: cohort → task → replies → admission → combination in site order (float64) → strategy → next
head → checkpoint. The scores of a round are those of the head entering it, on the images of the sites that took part.
A round with too few usable answers changes nothing and is tried again; then the run stops, and can be resumed.

Under differential privacy a round is charged before it begins, and never tried again: with whoever answers it goes on.
"""

import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.backbone.cut import cuts
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.depth import layer_at, layers
from fedtransfer.common.head.head import deepen
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.privacy.randomness import secret_generator
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Update
from fedtransfer.server.callbacks import Callback, Start
from fedtransfer.server.privacy.mechanism import SiteLevel, anonymous
from fedtransfer.server.privacy.spending import Spending
from fedtransfer.server.rounds import after as closing
from fedtransfer.server.rounds.before import prepare_run
from fedtransfer.server.rounds.progress import CLIP, MOMENTS, Progress
from fedtransfer.server.rounds.tasks import Requests
from fedtransfer.server.run_folder.checkpoint import Checkpoints
from fedtransfer.server.run_folder.records import Outcome
from fedtransfer.server.sites.admission import Answers, Terms
from fedtransfer.server.sites.cohort import cohort_size, draw_cohort, draw_secretly, quorum
from fedtransfer.server.sites.federation import Federation, join
from fedtransfer.server.sites.messenger import Messenger, too_few
from fedtransfer.server.sites.public import public_images
from fedtransfer.server.strategies import strategy
from fedtransfer.server.strategies.state import Contribution, Delta, State, zeros

log = logging.getLogger(__name__)


def federate(
    grid: Grid, config: RunConfig, backbone: Backbone, folder: Path, callbacks: Iterable[Callback] = (),
    rng: np.random.Generator | None = None,
) -> Outcome:  # fmt: skip
    """Run a whole federation over ``grid``, or with ``config.resume`` the rest of one, and return its outcome.

    ``rng`` draws secret cohorts and noise; by default nobody may repeat it.

    Raises:
        UserError: too few sites take part, a round got too few usable answers too often, or a checkpoint cannot be
            written or read; or the settings of privacy are not ones that can be kept.
    """
    callbacks = list(callbacks)
    spending = Spending.of(folder, config)
    if spending and config.dp == "site":
        SiteLevel.of(config, spending.promised)  # refuses what cannot be, before sites are asked

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
    asker = Messenger(grid, config, federation, terms, folder, callbacks, spending, public)
    rounds = Rounds(asker, rng or secret_generator())
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

    best, scored_by = closing.score(asker, rounds.requests, progress)
    best, points = closing.interpolate(asker, rounds.requests, progress, best, scored_by)
    delivery = closing.deliver(asker, rounds.requests, progress, best)
    personal = closing.make_personal(asker, rounds.requests, progress, best) if config.adaptation_epochs else {}
    return Outcome(
        best, progress, federation, {} if config.masks else delivery.admitted, delivery.refused, points, personal,
        spending.summary(stopped=stopped) if spending else {},
        (public.counts(progress, best), public.matrix(progress, best)) if public else None, delivery.total,
    )  # fmt: skip


class Rounds:
    """The rounds of training of one run."""

    def __init__(self, asker: Messenger, rng: np.random.Generator) -> None:
        self._asker, self._config, self._rng = asker, asker.config, rng
        self._federation: Federation = asker.federation
        self._strategy = strategy(asker.config.strategy)
        # What strategies read of the number of sites is that of those that train.
        self._known = asker.config.model_copy(update={"sites": len(asker.federation.trainers)})
        self.requests = Requests(asker.config, asker.federation)
        self._site_level: SiteLevel | None = None
        if asker.spending and asker.config.dp == "site":
            self._site_level = SiteLevel.of(asker.config, asker.spending.promised)

    def begin(self) -> Progress:
        """Stand before the first round, with a one-shot head where the run begins with one."""
        layer = layer_at(self._config, 1)
        if self._asker.spending and self._config.closed_form:
            self._asker.spending.charge(0)
        opening = prepare_run(self._asker, self._asker.terms.spec(layer))
        state = State(opening.head, {}) if self._config.closed_form else self._strategy.start(opening.head, self._known)
        progress = Progress.begin(state, self._config, os.urandom(8).hex(), layer)
        arrays = {**progress.arrays, MOMENTS: opening.moments} if opening.moments else progress.arrays
        return replace(progress, arrays=arrays, one_shot=opening.one_shot)

    def train(self, progress: Progress) -> Progress:
        """Make one round of training, trying again where too few answers are usable."""
        number = progress.round + 1
        progress = self._deepened(progress, number)
        public = self._asker.public.counts(progress) if self._asker.public else None
        if self._asker.spending:
            self._asker.spending.charge(number)
            return self._train_once(progress, number, public)
        for attempt in self._asker.attempts(number):
            planned = self._cohort(progress, number, attempt)
            task = self.requests.training(progress, number)
            asked = self._asker.ask(protocol.TRAIN, Update, number, {site: task(site) for site in planned})
            asked = replace(asked, attempt=attempt)
            record = progress.failure_record.after(number, asked.admitted, asked.refused)
            failure, state, delta = self._step(progress.state, asked, planned)
            after = replace(progress, failure_record=record)
            if not failure:
                scores = public or self._asker.total(asked.summands, "validation")
                after = after.scored(number, scores, self._config)
                after = after.stepped(number, state, delta, self._config)
                if hasattr(self._strategy, "extra"):
                    after = replace(after, counted={**after.counted, **dict.fromkeys(asked.admitted, number)})
            self._asker.report(
                number, "train", planned, asked, failure=failure, best=after.best.round > progress.best.round,
                set_aside=after.failure_record.set_aside(number), public=public,
            )  # fmt: skip
            if not failure:
                return after
            progress = after
        raise self._asker.round_error(number, failure, asked.refused)

    def _train_once(self, progress: Progress, number: int, public: Counts | None) -> Progress:
        """Make one round of training that has been paid for, with whoever answers."""
        secret = self._site_level is not None
        trainers = self._federation.trainers
        planned = (
            draw_secretly(trainers, self._config.fraction, self._rng) if secret else self._cohort(progress, number, 1)
        )
        task = self.requests.training(progress, number)
        asked = self._asker.ask(protocol.TRAIN, Update, number, {site: task(site) for site in planned})
        if self._site_level:
            contributions, progress = self._released(self._site_level, progress, asked)
            shown = anonymous(asked, self._asker, task(trainers[0]), progress.state.head)
        else:
            contributions, shown = self._contributions(asked), asked
            record = progress.failure_record.after(number, asked.admitted, asked.refused)
            progress = replace(progress, failure_record=record)
        failure, state, delta = self._moved(progress.state, contributions)
        if failure:
            raise UserError(f"round {number}: {failure}. The run stops here")
        after = progress.scored(number, public, self._config) if public else progress
        after = after.stepped(number, state, delta, self._config)
        self._asker.report(
            number, "train", () if secret else planned, shown, failure=asked.failure, best=after.best.round > progress.best.round,
            set_aside={} if secret else after.failure_record.set_aside(number), public=public, secret=secret,
        )  # fmt: skip
        return after

    def _released(
        self, mechanism: SiteLevel, progress: Progress, asked: Answers
    ) -> tuple[list[Contribution], Progress]:
        """Return the cohort's noisy sum, and the progress with the bound of the next round's updates."""
        deltas, bound = [answer.total for answer in asked.summands], progress.clip(self._config)
        released = mechanism.release(deltas, progress.state.head, bound, self._rng)
        if mechanism.quantile:
            following = np.array(mechanism.next_bound(deltas, bound, self._rng))
            progress = replace(progress, arrays={**progress.arrays, CLIP: (following,)})
        return [released], progress

    def _deepened(self, progress: Progress, number: int) -> Progress:
        """Unfreeze what a round is the first to train; the server's optimizer starts anew with it."""
        layer = layer_at(self._config, number)
        if layer == progress.trainable:
            return progress
        spec = self._asker.terms.spec
        head = deepen(progress.state.head, spec(progress.trainable), spec(layer))
        return replace(
            progress, state=self._strategy.start(head, self._known), trainable=layer, reference=math.inf, waited=0
        )

    def _cohort(self, progress: Progress, number: int, attempt: int) -> tuple[str, ...]:
        """Draw from the sites that are not set aside, or from all where too few would be left."""
        trainers = self._federation.trainers
        free = [site for site in trainers if site not in progress.failure_record.set_aside(number)]
        enough = len(free) >= max(1, self._config.min_sites)
        size = cohort_size(len(trainers), self._config)
        return draw_cohort(free if enough else trainers, size, self._config, number, attempt)

    def _step(self, state: State, asked: Answers, planned: Sequence[str]) -> tuple[str, State, Delta]:
        """Return why the round failed, or "", the next state and the combined update."""
        needed = quorum(len(planned), min(self._config.min_sites, len(planned)))
        if asked.failure:
            return asked.failure, state, ()
        if len(asked.admitted) < needed:
            return too_few(len(asked.admitted), planned, needed), state, ()
        return self._moved(state, self._contributions(asked))

    def _contributions(self, asked: Answers) -> list[Contribution]:
        """Return what the sites that answered sent, in site order; under masks their total, of the weight of all."""
        updates: list[Update] = asked.summands
        sites, weighting = 1 if asked.total is None else len(asked.admitted), self._config.weights_of_sites
        return [
            Contribution(u.total, protocol.weight_of(weighting, u.examples, sites), u.extra.get(protocol.CONTROL, ()))
            for u in updates
        ]

    def _moved(self, state: State, contributions: Sequence[Contribution]) -> tuple[str, State, Delta]:
        """Return what ``_step`` does, of what was sent; of nothing (Poisson sampling drew nobody), the state as it is."""
        if not contributions:
            return "", state, zeros(state.head)
        with np.errstate(over="ignore", invalid="ignore"):
            delta: Delta = self._strategy.combine(contributions, self._known)
            following: State = self._strategy.step(state, delta, self._known)
        arrays: list[NDArray[Any]] = [*following.head, *chain.from_iterable(following.slots.values())]
        if not all(np.isfinite(array).all() for array in arrays):
            return "the head would overflow; lower the learning rates, or set --max-update-norm", state, ()
        return "", following, delta
