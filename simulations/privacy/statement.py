"""The promises of a configuration before it runs: who learns what, ε, noise and signal."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.privacy_rules import cohort_under_masks
from fedtransfer.common.masks.graph import graph
from fedtransfer.common.privacy.accounting import epsilon_by_orders
from fedtransfer.common.privacy.closed_form import total_deviation
from fedtransfer.common.privacy.guarantee import Guarantee, guarantee
from fedtransfer.common.support.text import counted
from fedtransfer.common.wire.sums import NOISY_GRAM, one_shot_sums
from fedtransfer.simulations.methods import sizes

_NEVER = (
    "That images stay at their sites is no promise of privacy:"
    " updates are computed from images, travel, and reveal much about them.",
    "The final head reveals its training images to whoever gets it:"
    " without differential privacy, which images were among them; with it, no more than epsilon allows.",
)

# The norm of the mean of clipped gradients, over --clip 1, on the demo images' features (centred,
# of length 1): 0.075 at the head of zeros; after 10 whole steps at the default rate 0.067, after
# 50 0.044, after 100 0.028.
_ALIKE = 0.05


def statement(config: RunConfig, classes: int, images: int) -> Mapping[str, Any]:
    """Return the promises of a configuration for C ``classes``, as texts and numbers by subject.

    ``images`` is the number of training images of all sites, if that is public; 0 if unknown.

    Raises:
        UserError: the width of the backbone's features is unknown.
    """
    answers: dict[str, Any] = {
        "learns": _learns(config), "assumed": _assumed(config), "not_protected": [*_NEVER, *_open(config)],
        "privacy": None, "strength": None, "warnings": [],
    }  # fmt: skip
    if not (promised := guarantee(config)):
        return answers
    rounds = promised.affordable
    releases = rounds * promised.releases
    answers["privacy"] = {
        "epsilon": promised.epsilon(rounds),
        "delta": promised.delta,
        "epsilon_by_renyi_orders": epsilon_by_orders({promised.release: releases}, promised.delta),
        **{
            name: getattr(promised, name)
            for name in ("unit", "neighbours", "sampling", "noise_multiplier", "clip")
        },
        "releases": releases,
        "rounds": rounds,
        "rounds_planned": promised.rounds,
    }
    width = config.dimensions or sizes(config.backbone, classes, 1).features
    comparison = strength(config, promised, width, classes, images)
    computed = {name: getattr(comparison, name) for name in ("ratio", "drowned", "words")}
    answers["strength"] = {"what": comparison.quantity, **asdict(comparison), **computed}
    del answers["strength"]["quantity"]
    answers["warnings"] = [text for text in (comparison.warning, delta_warning(config, images)) if text]
    return answers


def _learns(config: RunConfig) -> Mapping[str, str]:
    if config.masks and config.private:
        server = f"totals over {_least(config)} of a round, with noise in them"
    elif config.masks:
        kinds = "of their messages, of their images and of their scores"
        server = f"exact totals over {_least(config)} of a round: {kinds}"
    elif config.dp == "site":
        server = (
            "every site's update without noise, before the server itself adds it:"
            " label counts and features of small classes"
        )
    elif config.dp == "image":
        server = "what each site sends, with noise that the site has added"
    else:
        server = f"every site's {config.method.sends}; that is {config.method.leaks}"
    heads = "the head" if config.closed_form else "the head of every round that they take part in"
    return {
        "server": server,
        "sites": f"{heads}, and so what it reveals about the images of the others",
        "network": "only sizes and times: in a deployment, messages go over TLS",
    }


def _least(config: RunConfig) -> str:
    """Return the least number of sites in a total, in words."""
    if config.partition == "natural":  # only the data tell the number of sites
        return f"at least {config.min_sites or 'two thirds (and three)'} of the sites"
    sites = cohort_under_masks(config)
    return f"at least {graph(sites, config).least} of {sites} sites"


def _assumed(config: RunConfig) -> list[str]:
    if not config.private and not config.masks:
        return ["everybody who sees an update or the head is trusted; --masks and --dp reduce that trust"]
    assumed = []
    if config.dp == "site" and config.noise == "alone":
        assumed.append(
            "the server is honest: it clips, adds the noise, and reveals nothing of the updates before that"
        )
        if config.fraction < 1:
            assumed.append(
                "nobody learns which sites took part in a round:"
                " the network and the server's log may reveal it"
            )
    elif config.dp == "site":
        assumed.append("sites clip their own updates")
    elif config.dp == "image":
        assumed.append("each site runs this program unaltered; for its own images it need trust nobody else")
    if config.noise == "shared":
        assumed.append(
            f"at least {config.honest_sites} sites of every total add their share of the noise"
            " (--min-sites less --colluding-sites)"
        )
    if config.masks:
        number = counted(config.colluding_sites, "site")
        collude = f"{number} {'colludes' if config.colluding_sites == 1 else 'collude'}"
        assumed += [
            f"at most {collude} with the server"
            if config.colluding_sites
            else "no site colludes with the server",
            "each enrolled key belongs to a real site: the coordinator enrols them and could invent sites,"
            " unless a site pins a roster",
        ]
    if config.private:
        assumed += [
            "class names, settings and numbers of sites are public,"
            " and settings were not tuned on these images",
            "noise is secret: a stream of AES under a key of the operating system",
        ]
    return assumed


def _open(config: RunConfig) -> list[str]:
    """Return what is not protected."""
    outsiders = " (those who see neither network nor server learn it only within epsilon)"
    gaps = ["who takes part, and when" + outsiders * (config.dp == "site" and config.noise == "alone")]
    if config.dp == "image":
        gaps += [
            "a person with many images: the unit is one image;"
            " for k of them epsilon is k times as large, and delta grows by more",
            "validation and test images are not used at all, so nothing about them is released",
        ]
    if config.masks:
        when = "with few sites, or over several rounds in which one site comes and goes"
        gaps += [] if config.private else [f"the totals: {when}, they reveal that site"]
        gaps.append("against wrong updates: nobody sees a single update")
    return gaps


@dataclass(frozen=True)
class Strength:
    """Noise and signal of one quantity that the run depends on."""

    quantity: str  # in words
    noise: float  # its expected size
    signal: float | None  # its size without noise; None if that depends on an unknown number of images
    advice: str  # settings with a better ratio
    # Little can be learnt from this ratio on. Eigenvalues differ widely, so the leading ones exceed
    # noise that is several times their mean.
    drowned_at: float = 1.0
    enough: int | None = None  # training images for which noise does not drown it; None if it depends on none

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
        if self.signal is not None:
            return f"{self.quantity}: {self.noise:.3g} against {self.signal:.3g}, ratio {self.ratio:.2g}"
        return (
            f"{self.quantity}: the noise drowns the signal of fewer than some {self.enough:,} training images"
            " in all; give --images to compare"
        )

    @property
    def warning(self) -> str:
        """A warning if the noise drowns the signal, else ""."""
        return f"the noise will drown the signal; what helps: {self.advice}" if self.drowned else ""


def strength(config: RunConfig, promised: Guarantee, width: int, classes: int, images: int) -> Strength:
    """Compare the expected noise of a run with the signal.

    Heads see features of ``width`` numbers; ``images`` are for training at all sites, 0 if unknown.
    """
    sites, z, clip = config.participants, promised.noise_multiplier, promised.clip

    def of_images(
        quantity: str, noise: float, of_one: float, advice: str, drowned_at: float = 1.0
    ) -> Strength:
        enough = math.ceil(noise / of_one / drowned_at)
        return Strength(quantity, noise, of_one * images if images else None, advice, drowned_at, enough)

    if config.closed_form:
        deviation = total_deviation(config, sites)
        helps = "fewer dimensions (--project with --dimensions), more images, or --noise shared with --masks"
        if one_shot_sums(config) == NOISY_GRAM:
            return of_images(
                "noise on the Gram matrix (spectral norm) against its mean eigenvalue",
                deviation * math.sqrt(2 * width), clip**2 / width,
                f"--strategy fedncm, {helps}", drowned_at=10.0,
            )  # fmt: skip
        return of_images(
            "noise on a class sum (norm) against the sum of a class of like images,"
            " all classes equally large",
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
        "noise on the sum of gradients over all steps and sites (norm) against that sum,"
        f" if the mean of an image's clipped gradients has {_ALIKE:.0%} of their norm,"
        " as early in training on CIFAR-10",
        z * clip * math.sqrt(numbers * adding * steps),
        _ALIKE * min(clip, largest) * config.image_rate * steps,
        "more images, --strategy fedncm, a larger --image-rate, or --noise shared with --masks",
    )  # fmt: skip


def delta_warning(config: RunConfig, images: int) -> str:
    """Return a warning if δ promises little; "" if not, or if the number of units is unknown."""
    units = config.participants if config.dp == "site" else images
    if not units or config.delta <= 1 / units:
        return ""
    return (
        f"delta {config.delta:g} is above 1 / {units:,}, the number of {config.dp}s: the promise would allow"
        f" to reveal some {config.delta * units:.2g} of them outright; give a --delta well below"
    )
