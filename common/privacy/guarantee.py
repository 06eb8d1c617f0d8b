"""The guarantee of a run: the unit of privacy, the releases, and ε at δ."""

import math
from dataclasses import dataclass
from functools import lru_cache

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.accounting import Release, Spent, epsilon, noise_for

_STEP = 1.25  # ε during a run is computed on a grid of rounds that grows by this factor


@dataclass(frozen=True)
class Guarantee:
    """Differential privacy of a run, for neighbours that differ by one unit, added or removed."""

    unit: str  # the protected unit: a ``site`` with all its images, or a training ``image``
    release: Release  # one noisy sum
    releases: int  # the number of releases in a round that a unit takes part in
    rounds: int  # the number of planned rounds
    clip: float  # the clip norm of a unit's share in a sum
    delta: float  # δ
    epsilon_limit: float  # ε that may be spent; infinite without a limit

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise on a sum, divided by its sensitivity to one unit."""
        return self.release.noise_multiplier

    @property
    def neighbours(self) -> str:
        """The neighbouring relation, in words."""
        if self.unit == "site" and self.release.discrete:  # without the site, its noise would be missing too
            return "one site's update replaced by zeros; that it takes part is not hidden"
        return f"add or remove one {self.unit}"

    @property
    def sampling(self) -> str:
        """The sampling of units, in words."""
        return "all" if self.release.rate == 1 else f"Poisson, {self.release.rate:g}"

    def epsilon(self, rounds: int) -> float:
        """Return ε at δ after ``rounds`` rounds."""
        return epsilon({self.release: rounds * self.releases}, self.delta)

    def epsilon_at_most(self, rounds: int) -> float:
        """Return an upper bound on ε after ``rounds`` rounds; exact for the last planned round.

        It is of up to 25 % more rounds, on a geometric grid, so that values can be cached.
        """
        steps = math.ceil(math.log(max(rounds, 1), _STEP))
        return self.epsilon(rounds and max(rounds, min(self.rounds, int(_STEP**steps))))

    @property
    def affordable(self) -> int:
        """The number of planned rounds that stay within ``epsilon_limit``."""
        if math.isinf(self.epsilon_limit) or self.epsilon(self.rounds) <= self.epsilon_limit:
            return self.rounds
        low, high = 0, self.rounds
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.epsilon(middle) <= self.epsilon_limit else (low, middle)
        return low


@lru_cache(maxsize=16)
def guarantee(config: RunConfig) -> Guarantee | None:
    """Return the guarantee of a run; None if it promises nothing.

    Without a configured noise multiplier, it is the least that keeps all planned rounds within ε.

    Raises:
        UserError: no noise keeps them within ε, or the configured noise costs more in round 1.
    """
    if not config.private:
        return None
    noise, discrete = config.noise_multiplier, config.noise == "shared"
    rate, releases = _rate(config), 1 if config.dp == "site" else config.private_steps
    rounds, limit = max(1, config.training_rounds), config.epsilon or math.inf
    if not noise:

        def spent(multiplier: float) -> Spent:
            return {Release(rate, multiplier, discrete): rounds * releases}

        try:
            noise = noise_for(spent, config.epsilon, config.delta)
        except ValueError as error:
            raise UserError(f"epsilon {config.epsilon:g}: {error}") from None
    release = Release(rate, noise, discrete)
    promised = Guarantee(config.dp, release, releases, rounds, config.clip, config.delta, limit)
    if not promised.affordable:
        raise UserError(
            f"epsilon {promised.epsilon_limit:g} is not enough for one round: with noise multiplier "
            f"{noise:.4g} it takes {promised.epsilon(1):.3g} at delta {promised.delta:g}; give more noise"
        )
    return promised


def _rate(config: RunConfig) -> float:
    """Return the secret chance that a unit is in a release; 1 if who is in it is not secret."""
    if config.dp == "image":
        return 1.0 if config.closed_form else config.image_rate
    # With masks, messages tell the server which sites are in a round: the sample is not secret.
    return config.fraction if config.noise == "alone" else 1.0
