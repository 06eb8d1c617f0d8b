"""Scoring of several heads by all sites in one exchange."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Tally, Trial
from fedtransfer.server.sites.messenger import Messenger

VALIDATION, TEST = 0, 1


@dataclass(frozen=True)
class HeadScores:
    """Scores of H heads under S factors over all sites' images; the last axis is validation, test.

    Attributes:
        images: number of images, (2,).
        correct: correctly classified images, (H, 2).
        losses: sums of the cross-entropy, (H, S, 2) float64.
        sites: the sites that scored.
    """

    images: NDArray[np.int64]
    correct: NDArray[np.int64]
    losses: NDArray[np.float64]
    sites: tuple[str, ...]


def score_heads(messenger: Messenger, trial: Trial) -> HeadScores:
    """Have all sites score the heads of ``trial``, whose site name is replaced for each site.

    Raises:
        UserError: too few sites answer.
    """
    sites = messenger.federation.everyone
    answers = messenger.ask_all(protocol.TRIAL, Tally, trial.round, sites, lambda site: replace(trial, site=site))
    messenger.report(trial.round, "trial", sites, answers)
    tallies = answers.summands
    return HeadScores(
        np.sum([tally.images for tally in tallies], axis=0),
        np.sum([tally.correct for tally in tallies], axis=0),
        np.sum([tally.losses for tally in tallies], axis=0),
        tuple(answers.admitted),
    )
