"""Noise compared with signal: whether a configuration leaves anything to learn."""

import math
from dataclasses import dataclass

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.privacy.closed_form import total_deviation
from fedtransfer.common.privacy.guarantee import Guarantee
from fedtransfer.common.wire.sums import NOISY_GRAM, one_shot_sums

# The norm of the mean of clipped gradients, over --clip 1, on the demo images' features (centred, of
# length 1): 0.075 at the head of zeros; after 10 whole steps at the default rate 0.067, after 50
# 0.044, after 100 0.028.
_ALIKE = 0.05


@dataclass(frozen=True)
class Strength:
    """Noise and signal of one quantity that the run depends on.

    Attributes:
        quantity: the quantity, in words.
        noise: the expected size of its noise.
        signal: its size without noise; None if that depends on an unknown number of images.
        advice: settings with a better ratio.
        drowned_at: the ratio from which on little can be learnt. Eigenvalues differ widely, so the
            leading ones exceed noise that is several times their mean.
        enough: the number of training images from which on the noise does not drown the signal;
            None if it does not depend on them.
    """

    quantity: str
    noise: float
    signal: float | None
    advice: str
    drowned_at: float = 1.0
    enough: int | None = None

    @property
    def ratio(self) -> float | None:
        """Noise over signal."""
        return self.noise / self.signal if self.signal else None

    @property
    def drowned(self) -> bool | None:
        """Whether little can be learnt; None if unknown."""
        return self.ratio >= self.drowned_at if self.ratio else None

    @property
    def words(self) -> str:
        """The comparison, in a line."""
        if self.signal is None:
            return (
                f"{self.quantity}: the noise drowns the signal of fewer than some {self.enough:,} training images in"
                " all; give --images to compare"
            )
        return f"{self.quantity}: {self.noise:.3g} against {self.signal:.3g}, ratio {self.ratio:.2g}"

    @property
    def warning(self) -> str:
        """A warning if the noise drowns the signal, else ""."""
        return f"the noise will drown the signal; what helps: {self.advice}" if self.drowned else ""


def strength(config: RunConfig, promised: Guarantee, width: int, classes: int, images: int) -> Strength:
    """Compare the expected noise with the signal.

    Args:
        config: the run's settings.
        promised: its guarantee.
        width: d of the features that heads see.
        classes: C.
        images: training images of all sites together; 0 if unknown.
    """
    sites, z, clip = config.participants, promised.noise_multiplier, promised.clip

    def of_images(quantity: str, noise: float, of_one: float, advice: str, drowned_at: float = 1.0) -> Strength:
        enough = math.ceil(noise / of_one / drowned_at)
        return Strength(quantity, noise, of_one * images if images else None, advice, drowned_at, enough)

    if config.closed_form:
        deviation = total_deviation(config, sites)
        helps = "fewer dimensions (--project with --dimensions), more images, or --noise shared with --masks"
        if one_shot_sums(config) == NOISY_GRAM:
            return of_images(
                "noise on the Gram matrix (spectral norm) against its mean eigenvalue",
                deviation * math.sqrt(2 * width), clip**2 / width, f"--strategy fedncm, {helps}", drowned_at=10.0,
            )  # fmt: skip
        return of_images(
            "noise on a class sum (norm) against the sum of a class of like images, all classes equally large",
            deviation * math.sqrt(width), clip / classes, helps,
        )  # fmt: skip
    numbers, steps = (width + 1) * classes, promised.rounds * promised.releases
    if config.dp == "site":
        ratio = z * math.sqrt(numbers / steps) / config.fraction  # over the bound, for one site
        return Strength(
            "noise on the mean update over all rounds (norm) against the bound of a single one",
            ratio * clip / sites, clip,
            f"more sites: the noise is as large as the bound with {math.ceil(ratio):,}; or --dp image",
        )  # fmt: skip
    adding = 1 if config.noise == "shared" else sites  # number of noises in the sum
    largest = math.sqrt(2 * (1 - 1 / classes))  # norm of an image's gradient at the head of zeros, unclipped
    return of_images(
        "noise on the sum of gradients over all steps and sites (norm) against that sum, if the mean of an image's"
        f" clipped gradients has {_ALIKE:.0%} of their norm, as early in training on CIFAR-10",
        z * clip * math.sqrt(numbers * adding * steps), _ALIKE * min(clip, largest) * config.image_rate * steps,
        "more images, --strategy fedncm, a larger --image-rate, or --noise shared with --masks",
    )  # fmt: skip


def delta_warning(config: RunConfig, images: int) -> str:
    """Return a warning if δ promises little; "" if not, or if the number of units is unknown."""
    units = config.participants if config.dp == "site" else images
    if not units or config.delta <= 1 / units:
        return ""
    return (
        f"delta {config.delta:g} is above 1 / {units:,}, the number of {config.dp}s: the promise would allow to reveal"
        f" some {config.delta * units:.2g} of them outright; give a --delta well below"
    )
