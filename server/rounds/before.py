"""Before the first round: the federation's feature statistics, and a one-shot head to begin with.

Both are computed from sums over the sites' training images, which each site sends once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedtransfer.common.features.feature_map import Moments, moments_of
from fedtransfer.common.head.head import Arrays, HeadSpec, initial_head
from fedtransfer.common.methods import METHODS
from fedtransfer.common.privacy.closed_form import total_deviation
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Gather, Sums, Tally, Trial
from fedtransfer.common.wire.sums import one_shot_sums
from fedtransfer.server.rounds.choice import bounded
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


def prepare_run(messenger: Messenger, spec: HeadSpec) -> tuple[Arrays, Moments | None, dict[str, float]]:
    """Return what the rounds begin with.

    That is the first head; mean and deviation of the federation's features, each (d,) float64, if
    the run standardises by them; and ``ridge`` and ``factor`` of a one-shot head.

    Raises:
        UserError: too few sites answer, or their sums give no head.
    """
    config = messenger.config
    moments = None
    if config.standardise == "federated":
        sums, _ = _gather(messenger, "moments", {})
        total, squares = np.sum([site.arrays[0] for site in sums], axis=0)
        moments = moments_of(sum(site.examples for site in sums), total, squares)
    head = initial_head(spec, config.seed)
    if not config.one_shot:
        return head, moments, {}
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
    return (*head[: -len(scaled)], *scaled), moments, {"ridge": ridge, "factor": factor}


def _gather(messenger: Messenger, statistic: str, extra: protocol.Extra) -> tuple[Sequence[Sums], int]:
    """Have the sites sum features of training images; return the sums, and the number of sites.

    Under differential privacy there is no retry: a second answer would be a second release.
    """
    if messenger.config.private:
        messenger = replace(messenger, config=messenger.config.model_copy(update={"round_retries": 0}))
    sites, classes = messenger.federation.trainers, messenger.terms.classes
    # Most heads are made of the total alone, which takes the memory of one site's sums.
    add = statistic == "moments" or METHODS[messenger.config.one_shot].masks.allowed
    answers = messenger.ask_all(
        protocol.GATHER, Sums, 0, sites, lambda site: Gather(site, 0, classes, statistic, extra=extra),
        len(sites), add=add,
    )  # fmt: skip
    messenger.report(0, "sums", sites, answers)
    return answers.summands, len(answers.admitted)


def _choose(
    messenger: Messenger, candidates: Mapping[float, Arrays], extra: protocol.Extra
) -> tuple[float, float]:
    """Return the ridge penalty λ and the factor on the scores with the lowest validation loss.

    Without validation images, λ is the one nearest to 1 and the factor is 1.
    """
    ridges, heads, sites = tuple(candidates), tuple(candidates.values()), messenger.federation.everyone
    classes = messenger.terms.classes
    answers = messenger.ask_all(
        protocol.TRIAL, Tally, 0, sites, lambda site: Trial(site, 0, classes, heads, FACTORS, extra=extra)
    )
    messenger.report(0, "trial", sites, answers)
    if not any(tally.images for tally in answers.summands):
        return min(ridges, key=lambda ridge: abs(np.log10(ridge or 1.0))), 1.0
    tallies = answers.summands
    images = np.array([tally.images for tally in tallies])
    losses, _ = bounded(np.array([tally.losses for tally in tallies]), images, len(classes))
    total = losses.sum(0)
    best, factor = np.unravel_index(total.argmin(), total.shape)
    return ridges[int(best)], FACTORS[int(factor)]
