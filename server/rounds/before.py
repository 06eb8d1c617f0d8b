"""What comes before the first round: the federation's feature statistics, and a one-shot head to begin with.

Both are made of sums over the sites' training images, which travel once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedtransfer.common.features.feature_map import Moments, moments_of
from fedtransfer.common.head.head import Arrays, HeadSpec, initial_head
from fedtransfer.common.privacy.closed_form import total_deviation
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Gather, Sums, Trial
from fedtransfer.common.wire.sums import one_shot_sums
from fedtransfer.server.rounds.scoring import VALIDATION, hold_trial
from fedtransfer.server.sites.messenger import Asker
from fedtransfer.server.strategies import ONE_SHOT_HEADS
from fedtransfer.server.strategies.one_shot import NEVER

# The class scores of a closed-form head say which class is likeliest, but not how much: a head that is to be trained
# on, or whose loss is looked at, wants the factor that suits its softmax. Powers of two change no digit of it.
FACTORS = tuple(2.0**k for k in range(-2, 8))

# Under differential privacy no image chooses it. On CIFAR-10, where images may, they choose 8 for ridge regression and 16
# to 32 for class means.
PRIVATE_FACTOR = 8.0


@dataclass(frozen=True)
class Opening:
    """What the rounds begin with.

    Attributes:
        head: the first head.
        moments: the federation's mean and deviation of features, each (d,) float64; None where nobody asked.
        chosen: what was chosen for a one-shot head: ``ridge`` and ``factor``.
    """

    head: Arrays
    moments: Moments | None = None
    chosen: Mapping[str, float] = field(default_factory=dict)


def open_run(asker: Asker, spec: HeadSpec) -> Opening:
    """Make what the rounds begin with.

    Raises:
        UserError: too few sites answer, or no head comes of their sums.
    """
    config = asker.config
    moments = _moments(_gather(asker, "moments", {})[0]) if config.standardise == "federated" else None
    head = initial_head(spec, config.seed)
    if not config.one_shot:
        return Opening(head, moments)
    extra: protocol.Extra = {protocol.MOMENTS: moments} if moments else {}
    one_shot = ONE_SHOT_HEADS[config.one_shot]
    sums, sites = _gather(asker, one_shot_sums(config), extra)
    if config.private:
        assert one_shot.solve_noisy  # the rules refuse those without
        ridge, (kernel, bias) = one_shot.solve_noisy(sums, config, total_deviation(config, sites))
        factor = PRIVATE_FACTOR
    else:
        candidates = one_shot.solve(sums, config)
        ridge, factor = _choose(asker, candidates, extra)
        kernel, bias = candidates[ridge]
    if not config.closed_form:  # a class that no site had then may come with one that trains later
        bias = np.where(bias == NEVER, bias[bias != NEVER].min(), bias)
    scaled = tuple(array * np.float32(factor) for array in (kernel, bias))
    return Opening((*head[: -len(scaled)], *scaled), moments, {"ridge": ridge, "factor": factor})


def _moments(sums: Sequence[Sums]) -> Moments:
    total, squares = np.sum([site.arrays[0] for site in sums], axis=0)
    return moments_of(sum(site.examples for site in sums), total, squares)


def _gather(asker: Asker, what: str, extra: protocol.Extra) -> tuple[Sequence[Sums], int]:
    """Have every site that trains sum its features; return what adds up to the whole, and of how many sites that is.

    Under differential privacy none is asked twice: a second answer would be a second release.
    """
    if asker.config.private:
        asker = replace(asker, config=asker.config.model_copy(update={"round_retries": 0}))
    sites, classes = asker.federation.trainers, asker.terms.classes

    def request(site: str) -> Gather:
        return Gather(site, 0, classes, what, extra=extra)

    asked = asker.ask_all(protocol.GATHER, Sums, 0, sites, request, len(sites))
    asker.report(0, "sums", sites, asked)
    return asked.answers, len(asked.admitted)


def _choose(asker: Asker, candidates: Mapping[float, Arrays], extra: protocol.Extra) -> tuple[float, float]:
    """Return the candidate, and the factor on its scores, with the lowest loss on all validation images.

    Where there is none, it is the candidate whose lambda is nearest to 1, and its scores as they are.
    """
    ridges, heads = tuple(candidates), tuple(candidates.values())
    trial = hold_trial(asker, Trial("", 0, asker.terms.classes, heads, FACTORS, extra=extra))
    if not trial.images[VALIDATION]:
        return min(ridges, key=lambda ridge: abs(np.log10(ridge or 1.0))), 1.0
    losses = trial.losses[:, :, VALIDATION]
    best, factor = np.unravel_index(losses.argmin(), losses.shape)
    return ridges[int(best)], FACTORS[int(factor)]
