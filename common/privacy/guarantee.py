"""What a run promises: the unit, the releases, ε at δ, and who is trusted."""

import math
from dataclasses import dataclass
from functools import lru_cache

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.accounting import Release, epsilon, noise_for

_STEP = 1.25  # the ε shown during a run is worked out at rounds that grow by this factor


@dataclass(frozen=True)
class Guarantee:
    """Differential privacy of a run, for neighbours that differ by one unit, added or removed.

    Attributes:
        unit: what is protected: a ``site`` with all its images, or a training ``image``.
        release: one noisy sum.
        releases: of them in a round, in which the unit takes part.
        rounds: that are planned.
        clip: the norm that a unit's share in a sum is bounded to.
        delta: δ.
        epsilon_limit: ε that may be spent; infinite without a limit.
    """

    unit: str
    release: Release
    releases: int
    rounds: int
    clip: float
    delta: float
    epsilon_limit: float

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise on a sum, over what one unit changes it by."""
        return self.release.noise_multiplier

    @property
    def neighbours(self) -> str:
        """The neighbouring relation, in words."""
        if self.unit == "site" and self.release.discrete:  # with a site its share of the noise would go as well
            return "one site's update replaced by zeros; that it takes part is not hidden"
        return f"add or remove one {self.unit}"

    @property
    def sampling(self) -> str:
        """How a unit comes into a sum, in words."""
        return "all" if self.release.rate == 1 else f"Poisson, {self.release.rate:g}"

    def epsilon(self, rounds: int) -> float:
        """Return ε at δ after so many rounds."""
        return epsilon({self.release: rounds * self.releases}, self.delta)

    def epsilon_at_most(self, rounds: int) -> float:
        """Return ε after so many rounds or up to a quarter more of them: exact for the last, and quick to ask every round."""
        steps = math.ceil(math.log(max(rounds, 1), _STEP))
        return self.epsilon(rounds and max(rounds, min(self.rounds, int(_STEP**steps))))

    @property
    def affordable(self) -> int:
        """Rounds that the budget is enough for, of those that are planned."""
        if math.isinf(self.epsilon_limit) or self.epsilon(self.rounds) <= self.epsilon_limit:
            return self.rounds
        low, high = 0, self.rounds
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.epsilon(middle) <= self.epsilon_limit else (low, middle)
        return low


@lru_cache(maxsize=16)
def guarantee(config: RunConfig) -> Guarantee | None:
    """Return what a run promises; None where it promises nothing.

    Without a noise multiplier the smallest is found that keeps all planned rounds within ε.

    Raises:
        UserError: no noise does, or that which is given costs more than ε in the first round.
    """
    if not config.private:
        return None
    noise, discrete = config.noise_multiplier, config.noise == "shared"
    rate, releases, rounds = _rate(config), _releases(config), max(1, config.training_rounds)
    if not noise:
        try:
            noise = noise_for(
                lambda multiplier: {Release(rate, multiplier, discrete): rounds * releases},
                config.epsilon,
                config.delta,
            )
        except ValueError as error:
            raise UserError(f"epsilon {config.epsilon:g}: {error}") from None
    promised = Guarantee(
        config.dp,
        Release(rate, noise, discrete),
        releases,
        rounds,
        config.clip,
        config.delta,
        config.epsilon or math.inf,
    )
    if not promised.affordable:
        raise UserError(
            f"epsilon {promised.epsilon_limit:g} is not enough for one round: with noise multiplier {noise:.4g} it takes "
            f"{promised.epsilon(1):.3g} at delta {promised.delta:g}; give more noise"
        )
    return promised


def _rate(config: RunConfig) -> float:
    """Return the chance of a unit to be in a release, as far as it is secret."""
    if config.dp == "image":
        return 1.0 if config.closed_form else config.image_rate
    # A server that learns from the masks' messages who is in a round gives no secrecy of samples of sites.
    return config.fraction if config.noise == "alone" else 1.0


def _releases(config: RunConfig) -> int:
    return 1 if config.dp == "site" else config.private_steps
