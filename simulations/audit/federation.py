"""A federation in memory, for audits: no messages, disk or images, so a run takes milliseconds.

Sites do what ``client`` has them do, the server what ``server`` does, with the same draws, so the
last head has the bits that the in-process engine gives. As in a run whose sites have no validation
images, class scores of a one-shot head are as they come, times 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.masking.shared_noise import with_share
from fedtransfer.client.training.private import private_update
from fedtransfer.client.training.statistics import released_sums, site_sums
from fedtransfer.client.training.trainer import Features, Labels, weighted_change
from fedtransfer.client.training.trainers import fine_tune
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.settings.option import changed, outside
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays, HeadSpec, initial_head
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.head.schedule import rate
from fedtransfer.common.masks.graph import graph
from fedtransfer.common.masks.vector import decode, encode, places
from fedtransfer.common.privacy.closed_form import total_deviation
from fedtransfer.common.privacy.gaussian import secret_generator
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.seeds import Key, digest
from fedtransfer.common.wire.protocol import CLASS_WEIGHTS, Gather, Request, Sums, Task, Update, weight_of
from fedtransfer.common.wire.sums import one_shot_sums
from fedtransfer.server.privacy.mechanism import SiteLevel
from fedtransfer.server.rounds.before import PRIVATE_FACTOR
from fedtransfer.server.rounds.progress import class_weights
from fedtransfer.server.sites.cohort import cohort_size, draw_cohort, draw_secretly
from fedtransfer.server.strategies import ONE_SHOT_HEADS, strategy_of
from fedtransfer.server.strategies.strategy import Contribution, next_head

Split = tuple[Features, Labels]  # features as heads see them (n, d) float32, class numbers (n,)
TOTAL = "total"  # stands for the site where sites' answers come added up

_SLOW = (
    "an audit repeats a run hundreds of times, and is quick enough for one softmax layer under plain SGD only"
)
_CHOSEN = "validation images would choose the head by it, and an audit has none"
_ADMITTED = "it is for answers that are not what they should be, and in an audit all are"
_UNREPEATABLE = {
    **dict.fromkeys(("trainable", "unfreeze_at", "hidden_units", "dropout", "l2", "optimizer"), _SLOW),
    **dict.fromkeys(("early_stopping", "patience"), _CHOSEN),
    **dict.fromkeys(("max_update_norm", "max_examples"), _ADMITTED),
    "hostile_sites": "an audit asks what honest sites give away",
    "augment": "an audit asks of images whether they were trained on, not of their views",
    "init": "validation images would choose the scale of the first head, and an audit has none",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What the server gets of a site in a round; under masks of all sites together."""

    # Weight · change of the head in training, else the sums of ``fedtransfer.common.wire.sums``.
    arrays: tuple[NDArray[np.float64], ...]
    images: int | None  # n as it is sent, under masks the sum over sites; None if it is secret


@dataclass(frozen=True)
class RoundView:
    """A round as the server sees it, without noise if the server alone adds it (``--dp site``)."""

    round: int  # from 1 on; 0 for a one-shot head
    head: Arrays  # that was sent out
    sent: Mapping[str, Answer]  # site → what it sent; under masks ``TOTAL`` alone
    cohort: tuple[str, ...]  # sites that sent something


def federate(
    config: RunConfig, sites: Mapping[str, Split], classes: int, key: Key | None = None,
    observe: Callable[[RoundView], None] | None = None, *, rng: np.random.Generator | None = None,
) -> Arrays:  # fmt: skip
    """Run a config's federated algorithm on features in memory; return the last head.

    Args:
        config: the run's settings.
        sites: name → its training images, by the config's settings of data, backbone and features.
        classes: C.
        key: moves draws of batches and cohorts, otherwise those of a run with ``config.seed``.
        observe: called with each round.
        rng: draws noise, secret cohorts, all else that nobody may repeat; by default nobody may.

    Raises:
        UserError: an audit cannot repeat such a run, or it cannot be.
    """
    refuse_unrepeatable(config)
    config = config.model_copy(update={"sites": len(sites), "unseen_sites": 0})
    seed = config.seed if key is None else int.from_bytes(digest(config.seed, "in memory", key)[:6])
    taking_part = {name: sites[name] for name in sorted(sites) if config.hides_counts or len(sites[name][1])}
    if not any(len(y) for _, y in taking_part.values()):
        raise UserError(f"none of the {len(sites)} sites has a training image")
    features = next(iter(taking_part.values()))[0].shape[1]
    seeded = config.model_copy(update={"seed": seed})
    run = _Run(config, seeded, taking_part, HeadSpec(features, classes), rng or secret_generator(), observe)
    return run.one_shot() if config.closed_form else run.rounds()


def refuse_unrepeatable(config: RunConfig) -> None:
    """Raise a UserError, which says why, for a run that cannot be repeated in memory."""
    for name, why in _UNREPEATABLE.items():
        if changed(config, name):
            raise UserError(f"{outside(name)} {getattr(config, name)}: {why}; leave it at its default")
    if config.method.control_variates:
        raise UserError(
            f"strategy {config.strategy}: its sites keep a state on disk from round to round; "
            "audit another strategy"
        )
    if config.standardise == "federated":
        raise UserError(
            "standardise federated: what every feature is divided by would depend on who is in; "
            "give --standardise centre or public"
        )
    if "ridge" in config.method.options and not config.ridge and not config.private:
        raise UserError(
            f"ridge 0: {config.strategy} would choose lambda by validation images, and an audit has none; "
            "give the --ridge that the run chose (its summary.json has it)"
        )
    if config.masks and config.sampling == "poisson":
        raise UserError(
            "sampling poisson: under masks a round with too few sites is tried again, "
            "which an audit does not repeat; give --sampling fixed"
        )


@dataclass(frozen=True)
class _Run:
    """One run: ``seeded`` is its config with its seed; the promise is ``config``'s, made once."""

    config: RunConfig
    seeded: RunConfig
    sites: Mapping[str, Split]
    spec: HeadSpec
    rng: np.random.Generator
    observe: Callable[[RoundView], None] | None

    def one_shot(self) -> Arrays:
        """Return the head of sums over the sites."""
        config, one_shot = self.config, ONE_SHOT_HEADS[self.config.strategy]
        request = Gather(TOTAL, 0, (), one_shot_sums(config))
        head = initial_head(self.spec, config.seed)
        sums = self._received(request, head, {name: self._sums(name, request.what) for name in self.sites})
        if not config.private:
            [solved] = one_shot.solve(sums, config).values()
            return solved
        assert one_shot.solve_noisy  # the rules refuse those without
        _, noisy = one_shot.solve_noisy(sums, config, total_deviation(config, len(self.sites)))
        return tuple(array * np.float32(PRIVATE_FACTOR) for array in noisy)

    def rounds(self) -> Arrays:
        """Return the head after all rounds of training."""
        config, strategy, promised = self.config, strategy_of(self.config), guarantee(self.config)
        # Strategies read how many train.
        strategy_config = config.model_copy(update={"sites": len(self.sites)})
        mechanism = SiteLevel.from_config(config, promised) if promised and config.dp == "site" else None
        state = strategy.start(initial_head(self.spec, config.seed), strategy_config)
        weighting, extra = config.weights_of_sites, self._class_weights()
        for number in range(1, _affordable(config) + 1):
            if mechanism:
                cohort = draw_secretly(self.sites, config.fraction, self.rng)
            else:
                cohort = draw_cohort(self.sites, cohort_size(len(self.sites), config), self.seeded, number)
            task = Task(TOTAL, number, (), state.head, weighting, rate=rate(config, number), extra=extra)
            answers = {name: self._update(replace(task, site=name)) for name in cohort}
            received = self._received(task, state.head, answers)
            if mechanism:
                deltas = [update.total for update in received]
                contributions = [mechanism.release(deltas, state.head, config.clip, self.rng)]
            else:
                together = len(cohort) if config.masks else 1
                weights = [weight_of(weighting, update.examples, together) for update in received]
                contributions = [
                    Contribution(u.total, weight) for u, weight in zip(received, weights, strict=True)
                ]
            try:
                state = next_head(strategy, state, contributions, strategy_config)
            except OverflowError as error:
                raise UserError(f"round {number}: {error}") from None
        return state.head

    def _update(self, task: Task) -> Update:
        (x, y), config = self.sites[task.site], self.config
        nothing, n = Counts.empty(self.spec.classes), 1 if config.private else len(y)
        if config.dp == "image":
            total = private_update(task, x, y, config, self.rng)
        else:
            head = fine_tune(task, x, y, self.spec, self.seeded)
            total = weighted_change(task.head, head, weight_of(task.weighting, n))
        return Update(task.round, "", "", nothing, nothing, n, total)

    def _sums(self, name: str, kind: str) -> Sums:
        x, y = self.sites[name]
        if self.config.private:
            return Sums(0, "", "", 1, released_sums(x, y, self.spec.classes, self.config, self.rng))
        return Sums(0, "", "", len(y), site_sums(kind, x, y, self.spec.classes))

    def _received(self, request: Request, head: Arrays, answers: Mapping[str, Any]) -> list[Any]:
        """Return what the server gets: the sites' answers, or under masks their sum. Report it."""
        cohort = tuple(answers)
        if self.config.masks:
            answers = {TOTAL: self._total(request, list(answers.values()))}
        if self.observe:
            sent = {name: _sent(answer, secret=self.config.private) for name, answer in answers.items()}
            self.observe(RoundView(request.round, head, sent, cohort))
        return list(answers.values())

    def _total(self, request: Request, answers: list[Any]) -> Any:
        """Add answers as under masks: rounded, and with their shares of the noise."""
        number, bits = graph(len(answers), self.config).sites, places(request)
        vectors = [
            encode(a, number, self.rng, bits, with_share(a, request, self.config, self.rng)) for a in answers
        ]
        return decode(np.sum(vectors, axis=0, dtype=np.uint64), answers[0], number, bits)

    def _class_weights(self) -> dict[str, tuple[NDArray[np.float32]]]:
        if not self.config.class_balance:
            return {}
        images = np.bincount(np.concatenate([y for _, y in self.sites.values()]), minlength=self.spec.classes)
        return {CLASS_WEIGHTS: (class_weights(images, self.config.class_balance),)}


def _sent(answer: Update | Sums, *, secret: bool) -> Answer:
    arrays = answer.total if isinstance(answer, Update) else answer.arrays
    return Answer(tuple(array.astype(np.float64) for array in arrays), None if secret else answer.examples)


@lru_cache(maxsize=16)
def _affordable(config: RunConfig) -> int:
    """Return how many rounds a run makes: all, or as many as its budget is enough for."""
    promised = guarantee(config)
    if promised and not promised.affordable:
        raise UserError(f"epsilon {promised.epsilon_limit:g} is not enough for one round; give more noise")
    return promised.affordable if promised else config.rounds
