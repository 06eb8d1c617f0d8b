"""Differential privacy of sites by a server that they trust: clip, sum, add noise, divide.

McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models" (arXiv 1710.06963),
Algorithm 1 with flat clipping, equal weights and the fixed denominator of its Lemma 1: with q the
chance that a site is in a cohort, N the number of sites and C the clip norm,

    Δ = (Σ_k clip(Δ_k, C) + N(0, (z C)² I)) / (q N).

A site that is absent, or whose answer is refused, adds zero; noise and denominator do not depend on
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.privacy.gaussian import clipped, noised
from fedtransfer.common.privacy.guarantee import Guarantee
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Request, Update, classes_digest
from fedtransfer.server.sites.admission import Answers
from fedtransfer.server.sites.exchange import carried
from fedtransfer.server.sites.messenger import Messenger
from fedtransfer.server.strategies.strategy import Contribution, summed, zeros


@dataclass(frozen=True)
class SiteLevel:
    """The mechanism of one run."""

    expected: float  # q N, the divisor of sums, which is fixed and public, whoever answers
    noise_multiplier: float  # z, of a round's release
    shared: bool = False  # sites clip and add the noise, and the server receives their sum

    @classmethod
    def from_config(cls, config: RunConfig, promise: Guarantee) -> "SiteLevel":
        """Return the mechanism of a run."""
        return cls(config.fraction * config.participants, promise.noise_multiplier, config.noise == "shared")

    def release(
        self, deltas: Sequence[Arrays], head: Arrays, bound: float, rng: np.random.Generator
    ) -> Contribution:
        """Return the noisy sum of the deltas, clipped to a norm of ``bound``, with its divisor.

        The deltas are of the sites that answered, in site order, and have the shape of ``head``.
        Without any, it is a release too.
        """
        if self.shared:
            return Contribution(summed([zeros(head), *deltas]), self.expected)
        total = summed([zeros(head), *(clipped(delta, bound) for delta in deltas)])
        return Contribution(noised(total, self.noise_multiplier * bound, rng), self.expected)


def anonymous(answers: Answers, messenger: Messenger, request: Request, head: Arrays) -> Answers:
    """Return the answers of a secret cohort without its sites and their number.

    The sizes of messages are those of a stand-in, so that they do not reveal an empty cohort.
    """
    nothing = Counts.empty(len(request.classes))
    answer = Update(
        request.round, messenger.terms.fingerprint, classes_digest(request.classes), nothing, nothing, 1,
        tuple(np.zeros_like(array) for array in head),
    )  # fmt: skip
    down, up = carried(request, protocol.TRAIN), carried(answer, protocol.TRAIN)
    return replace(answers, admitted={}, refused={}, total=None, failure="", bytes_down=down, bytes_up=up)
