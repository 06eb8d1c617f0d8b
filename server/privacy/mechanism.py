"""Differential privacy of sites by a server that they trust: clip, sum, add noise, divide.

McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models" (arXiv 1710.06963),
Algorithm 1 with flat clipping, equal weights and the fixed denominator of its Lemma 1: with q the
chance that a site is in a cohort, N the number of sites and C the clip norm,

    Δ = (Σ_k clip(Δ_k, C) + N(0, (z C)² I)) / (q N).

A site that is absent, or whose answer is refused, adds zero; noise and denominator do not depend on
it.

With ``--clip-quantile`` γ the clip norm adapts: Andrew et al. 2021, "Differentially Private Learning
with Adaptive Clipping" (arXiv 1905.03871), Algorithm 1. With b_k = 1 if the norm of Δ_k is at
most C, m = q N and σ_b = m / 20,

    b̃ = 1/2 + (Σ_k (b_k - 1/2) + N(0, σ_b²)) / m,   C ← C · exp(-0.2 (b̃ - γ)).

A site changes Σ (b_k - 1/2) by 1/2. For both sums together to cost as much as one with noise
multiplier z, the updates get z_Δ = (z⁻² - (2 σ_b)⁻²)^(-1/2) (Theorem 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.privacy.clipping import clipped, norm
from fedtransfer.common.privacy.gaussian import noised
from fedtransfer.common.privacy.guarantee import Guarantee
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Request, Update, classes_digest
from fedtransfer.server.sites.admission import Answers
from fedtransfer.server.sites.exchange import carried
from fedtransfer.server.sites.messenger import Messenger
from fedtransfer.server.strategies.state import Contribution, summed, zeros

RATE = 0.2  # of the steps of the clip norm
BITS = 20  # m / σ_b


@dataclass(frozen=True)
class SiteLevel:
    """The mechanism of one run.

    Attributes:
        expected: m = q N, the divisor of sums, which is fixed and public, whoever answers.
        noise_multiplier: z, of a round's release.
        quantile: γ, to which the clip norm adapts; 0 if it is fixed.
        shared: whether sites clip and add the noise, and the server receives their sum.
    """

    expected: float
    noise_multiplier: float
    quantile: float = 0.0
    shared: bool = False

    @classmethod
    def from_config(cls, config: RunConfig, promise: Guarantee) -> "SiteLevel":
        """Return the mechanism of a run.

        Raises:
            UserError: see ``check_adaptive_clip``.
        """
        check_adaptive_clip(config, promise)
        shared = config.noise == "shared"
        return cls(config.fraction * config.participants, promise.noise_multiplier, config.clip_quantile, shared)

    @property
    def noise_of_updates(self) -> float:
        """z_Δ, or z if the clip norm is fixed."""
        if not self.quantile:
            return self.noise_multiplier
        return (self.noise_multiplier**-2 - (2 * self.expected / BITS) ** -2) ** -0.5

    def release(self, deltas: Sequence[Arrays], head: Arrays, bound: float, rng: np.random.Generator) -> Contribution:
        """Return the noisy sum of the sites' deltas, clipped to ``bound``, with its divisor.

        Args:
            deltas: of the sites that answered, in site order; without any, it is a release too.
            head: has the shape of each delta.
            bound: C, the clip norm.
            rng: draws the noise.
        """
        if self.shared:
            return Contribution(summed([zeros(head), *deltas]), self.expected)
        total = summed([zeros(head), *(clipped(delta, bound) for delta in deltas)])
        return Contribution(noised(total, self.noise_of_updates * bound, rng), self.expected)

    def next_bound(self, deltas: Sequence[Arrays], bound: float, rng: np.random.Generator) -> float:
        """Return C, the clip norm, of the next round."""
        if not self.quantile:
            return bound
        centred = sum((norm(delta) <= bound) - 0.5 for delta in deltas)
        below = 0.5 + (centred + self.expected / BITS * rng.standard_normal()) / self.expected
        return bound * math.exp(-RATE * (below - self.quantile))


def check_adaptive_clip(config: RunConfig, promise: Guarantee) -> None:
    """Check that a run's sites are enough to adapt the clip norm, if it is to adapt.

    Raises:
        UserError: the noise allows less than the count of sites below the norm would cost.
    """
    expected, noise = config.fraction * config.participants, promise.noise_multiplier
    if config.clip_quantile and noise >= 2 * expected / BITS:
        raise UserError(
            f"clip-quantile: to adapt the clip norm, sites are counted under noise of {expected / BITS:g}, a "
            f"twentieth of the {expected:g} that are expected in a round, and that alone would cost more than "
            f"noise multiplier {noise:.4g} allows; it must be below {2 * expected / BITS:g}. Give a "
            "fixed --clip, or have more sites in a round"
        )


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
