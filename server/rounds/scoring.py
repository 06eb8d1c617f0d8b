"""A trial: all sites score several heads at once, and their counts are summed."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Tally, Trial
from fedtransfer.server.sites.messenger import Asker

VALIDATION, TEST = 0, 1


@dataclass(frozen=True)
class TrialResult:
    """How H heads did under S factors on the images of all sites: the last axis is validation, test.

    Attributes:
        images: (2,).
        correct: (H, 2).
        losses: sums of the cross-entropy, (H, S, 2) float64.
        sites: whose images these are.
    """

    images: NDArray[np.int64]
    correct: NDArray[np.int64]
    losses: NDArray[np.float64]
    sites: tuple[str, ...]


def hold_trial(asker: Asker, trial: Trial) -> TrialResult:
    """Have all sites score heads; ``trial`` is what they are asked, under any site's name.

    Raises:
        UserError: too few sites answer.
    """
    sites = asker.federation.everyone
    asked = asker.ask_all(protocol.TRIAL, Tally, trial.round, sites, lambda site: replace(trial, site=site))
    asker.report(trial.round, "trial", sites, asked)
    tallies = asked.answers
    return TrialResult(
        np.sum([tally.images for tally in tallies], axis=0),
        np.sum([tally.correct for tally in tallies], axis=0),
        np.sum([tally.losses for tally in tallies], axis=0),
        tuple(asked.admitted),
    )
