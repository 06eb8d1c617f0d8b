"""A mean with its 95 % interval, whether a curve rises, and limits on which reports agree."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

BASELINES = ("local only", "pooled softmax", "pooled ridge", "pooled NCM", "pooled LDA", "majority class")
REACHED = 0.95  # share of the pooled softmax head's accuracy at which rounds and bytes are counted
FEWEST_FALSE_ALARMS = 10  # answers on non-members that a false positive rate must rest on
_ENOUGH = 10  # values for a bootstrap


@dataclass(frozen=True)
class Estimate:
    """A mean over n values.

    Attributes:
        mean: NaN without any value.
        low, high: the 95 % interval of the mean; for two values, which are too few for a useful
            interval, the values; NaN for fewer, or if it is unknown.
        n: number of values.
    """

    mean: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0

    @classmethod
    def from_values(cls, values: Iterable[float]) -> "Estimate":
        """Return the estimate from values, without NaN, with Student's interval."""
        numbers = sorted(value for value in values if not math.isnan(value))
        if not numbers:
            return cls(math.nan)
        mean, n = float(np.mean(numbers)), len(numbers)
        if n == 1:
            return cls(mean, n=1)
        if n == 2:
            return cls(mean, numbers[0], numbers[1], 2)
        half = float(_quantile(n) * np.std(numbers, ddof=1) / math.sqrt(n))
        return cls(mean, mean - half, mean + half, n)

    @classmethod
    def bootstrapped(cls, values: Sequence[float]) -> "Estimate":
        """Return the estimate with a bootstrap interval.

        Fewer than ten values get none: their interval would hold the mean in far less than 95 % of
        cases.
        """
        from scipy.stats import bootstrap

        if len(values) < _ENOUGH:
            return cls(float(np.mean(values)) if len(values) else math.nan, n=len(values))
        rng = np.random.default_rng(0)
        resampled = bootstrap((values,), np.mean, method="percentile", n_resamples=2000, rng=rng)
        low, high = map(float, resampled.confidence_interval)
        return cls(float(np.mean(values)), low, high, len(values))

    @property
    def half(self) -> float:
        """Half the width of Student's 95 % interval, NaN for fewer than two values."""
        half = (self.high - self.low) / 2
        return _quantile(2) * half if self.n == 2 else half

    def text(self, show: Callable[[float], str], between: str = " to ") -> str:
        """Return ``mean ± half``, for two values ``mean (low to high)``; "" without any value."""
        if math.isnan(self.mean):
            return ""
        if math.isnan(self.low):
            return show(self.mean)
        if self.n == 2:
            return f"{show(self.mean)} ({show(self.low)}{between}{show(self.high)})"
        return f"{show(self.mean)} ± {show(self.half).lstrip('+')}"


def _quantile(n: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, n - 1))


def rising(accuracy: Sequence[float]) -> float:
    """Return the rise of the mean accuracy from the last but one fifth of the rounds to the last.

    It is 0 unless it is clear: above one point, and above twice the standard error of the
    difference.

    Args:
        accuracy: before the first round, and after each.
    """
    fifth = (len(accuracy) - 1) // 5
    if fifth < 2:
        return 0.0
    last, before = np.array(accuracy[-fifth:]), np.array(accuracy[-2 * fifth : -fifth])
    rise = float(last.mean() - before.mean())
    error = math.sqrt((last.var(ddof=1) + before.var(ddof=1)) / fifth)
    return rise if rise > max(0.01, 2 * error) else 0.0
