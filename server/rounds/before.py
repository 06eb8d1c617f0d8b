"""Before the first round: the federation's feature statistics, and a one-shot head to begin with.

Both are computed from sums over the sites' training images, which each site sends once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedtransfer.common.features.feature_map import Moments, moments_of
from fedtransfer.common.head.head import Arrays, HeadSpec, initial_head
from fedtransfer.common.privacy.closed_form import total_deviation
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Gather, Sums, Tally, Trial
from fedtransfer.common.wire.sums import one_shot_sums
from fedtransfer.server.sites.messenger import Messenger
from fedtransfer.server.strategies import ONE_SHOT_HEADS
from fedtransfer.server.strategies.one_shot import NEVER

# The class scores of a closed-form head rank the classes but are no log-odds: a head to be trained
# further, or scored by its loss, needs the factor that suits its softmax. Powers of two change no
# digit of the head.
FACTORS = tuple(2.0**k for k in range(-2, 8))

# Under differential privacy validation images may not choose the factor. On CIFAR-10 without
# privacy they choose 8 for ridge regression and 16 to 32 for class means.
PRIVATE_FACTOR = 8.0


@dataclass(frozen=True)
class StartingPoint:
    """What the rounds begin with.

    Attributes:
        head: the first head.
        moments: mean and deviation of the federation's features, each (d,) float64; None if the run
            does not standardise by them.
        one_shot: ``ridge`` and ``factor`` of a one-shot head.
    """

    head: Arrays
    moments: Moments | None = None
    one_shot: Mapping[str, float] = field(default_factory=dict)


def prepare_run(messenger: Messenger, spec: HeadSpec) -> StartingPoint:
    """Compute what the rounds begin with.

    Raises:
        UserError: too few sites answer, or their sums give no head.
    """
    config = messenger.config
    moments = _moments(_gather(messenger, "moments", {})[0]) if config.standardise == "federated" else None
    head = initial_head(spec, config.seed)
    if not config.one_shot:
        return StartingPoint(head, moments)
    extra: protocol.Extra = {protocol.MOMENTS: moments} if moments else {}
    one_shot = ONE_SHOT_HEADS[config.one_shot]
    sums, sites = _gather(messenger, one_shot_sums(config), extra)
    if config.private:
        assert one_shot.solve_noisy  # the rules refuse those without
        ridge, (kernel, bias) = one_shot.solve_noisy(sums, config, total_deviation(config, sites))
        factor = PRIVATE_FACTOR
    else:
        candidates = one_shot.solve(sums, config)
        ridge, factor = _choose(messenger, candidates, extra)
        kernel, bias = candidates[ridge]
    if not config.closed_form:  # a class missing from the sums may still occur at a site that trains later
        bias = np.where(bias == NEVER, bias[bias != NEVER].min(), bias)
    scaled = tuple(array * np.float32(factor) for array in (kernel, bias))
    return StartingPoint((*head[: -len(scaled)], *scaled), moments, {"ridge": ridge, "factor": factor})


def _moments(sums: Sequence[Sums]) -> Moments:
    total, squares = np.sum([site.arrays[0] for site in sums], axis=0)
    return moments_of(sum(site.examples for site in sums), total, squares)


def _gather(messenger: Messenger, statistic: str, extra: protocol.Extra) -> tuple[Sequence[Sums], int]:
    """Have the sites sum features of training images; return the sums, and the number of sites.

    Under differential privacy there is no retry: a second answer would be a second release.
    """
    if messenger.config.private:
        messenger = replace(messenger, config=messenger.config.model_copy(update={"round_retries": 0}))
    sites, classes = messenger.federation.trainers, messenger.terms.classes

    def request(site: str) -> Gather:
        return Gather(site, 0, classes, statistic, extra=extra)

    answers = messenger.ask_all(protocol.GATHER, Sums, 0, sites, request, len(sites))
    messenger.report(0, "sums", sites, answers)
    return answers.summands, len(answers.admitted)


def _choose(messenger: Messenger, candidates: Mapping[float, Arrays], extra: protocol.Extra) -> tuple[float, float]:
    """Return the ridge penalty λ and the factor on the scores with the lowest validation loss.

    Without validation images, λ is the one nearest to 1 and the factor is 1.
    """
    ridges, heads, sites = tuple(candidates), tuple(candidates.values()), messenger.federation.everyone

    def request(site: str) -> Trial:
        return Trial(site, 0, messenger.terms.classes, heads, FACTORS, extra=extra)

    answers = messenger.ask_all(protocol.TRIAL, Tally, 0, sites, request)
    messenger.report(0, "trial", sites, answers)
    if not any(tally.images for tally in answers.summands):
        return min(ridges, key=lambda ridge: abs(np.log10(ridge or 1.0))), 1.0
    losses = np.sum([tally.losses for tally in answers.summands], axis=0)
    best, factor = np.unravel_index(losses.argmin(), losses.shape)
    return ridges[int(best)], FACTORS[int(factor)]
