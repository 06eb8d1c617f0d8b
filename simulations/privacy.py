"""What a configuration promises of privacy, in words and numbers, before it runs: who learns what, ε, noise and signal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.config import RunConfig
from common.privacy.accounting import epsilon_by_orders
from common.privacy.closed_form import total_deviation
from common.privacy.guarantee import Guarantee, guarantee
from common.sums import NOISY_GRAM, one_shot_sums
from simulations.methods import METHODS, sizes

_NEVER = (
    "That images stay at their sites is no promise of privacy: what is made of them travels, and tells of them.",
    "The head that comes out tells of its training images, whoever gets it: without differential privacy it says"
    " which were in it, and with it no more than epsilon allows.",
)


@dataclass(frozen=True)
class Strength:
    """Noise beside signal, in one number that the run depends on.

    Attributes:
        what: which number.
        noise: its expected size.
        signal: the most that it can be without noise.
        advice: what would make the ratio better.
        drowned_at: the ratio from which on little is to be learnt. Eigenvalues differ widely, so that the leading ones
            stand out of noise that is several times their mean.
    """

    what: str
    noise: float
    signal: float
    advice: str
    drowned_at: float = 1.0

    @property
    def ratio(self) -> float:
        """Noise over signal."""
        return self.noise / self.signal


def statement(config: RunConfig, classes: int, images: int) -> Mapping[str, Any]:
    """Say what a configuration promises.

    Args:
        config: the run's settings.
        classes: C.
        images: training images of all sites together, as far as is publicly known; 0 for unknown.

    Raises:
        UserError: the width of the backbone's features is not known.
    """
    promised = guarantee(config)
    told: dict[str, Any] = {
        "learns": _learns(config),
        "assumed": _assumed(config),
        "not_protected": [*_NEVER, *_open(config)],
        "privacy": None,
        "strength": None,
    }
    if promised is None:
        return told
    rounds = promised.affordable
    spent = promised.epsilon(rounds)
    told["privacy"] = {
        "epsilon": spent,
        "delta": promised.delta,
        "epsilon_by_renyi_orders": epsilon_by_orders({promised.release: rounds * promised.releases}, promised.delta),
        "unit": promised.unit,
        "neighbours": promised.neighbours,
        "sampling": promised.sampling,
        "noise_multiplier": promised.noise_multiplier,
        "clip": promised.clip,
        "releases": rounds * promised.releases,
        "rounds": rounds,
        "rounds_planned": promised.rounds,
    }
    found = _strength(config, promised, classes, images)
    told["strength"] = {
        "what": found.what,
        "noise": found.noise,
        "signal": found.signal,
        "ratio": found.ratio,
        "drowned": found.ratio >= found.drowned_at,
        "advice": found.advice,
    }
    return told


def _learns(config: RunConfig) -> Mapping[str, str]:
    """Say who learns what."""
    method = next((m for m in METHODS if m.strategy == config.strategy), METHODS[0])
    if config.masks and config.private:
        server = "totals over the sites of a round, with noise in them"
    elif config.masks:
        server = "totals over at least three sites of a round, exactly: of what they send, of their images and of their scores"
    elif config.dp == "site":
        server = "every site's update as it is, before the server itself adds noise: label counts and features of small classes"
    elif config.dp == "image":
        server = "what each site sends, with noise in it that the site has added"
    else:
        server = f"every site's {method.sends}; that is {method.leaks}"
    every_round = not config.closed_form
    heads = "the head of every round that they take part in" if every_round else "the head"
    return {
        "server": server,
        "sites": f"{heads}, and so what that tells of the others' images",
        "network": "nothing but sizes and times: messages go over TLS in a deployment",
    }


def _assumed(config: RunConfig) -> list[str]:
    """Say what must hold for the promise to hold."""
    if not config.private and not config.masks:
        return ["nothing is promised, so nothing need hold"]
    assumed = []
    if config.dp == "site":
        if config.noise == "alone":
            assumed += ["the server is honest: it clips, adds the noise, and tells nobody what it saw before that"]
            if config.fraction < 1:
                assumed.append(
                    "nobody learns which sites a round had: who watches the network, or the server's log, may"
                )
        else:
            assumed.append("sites clip their own updates")
    elif config.dp == "image":
        assumed.append("each site runs this program unaltered; it need trust nobody else for its own images")
    if config.noise == "shared":
        assumed.append(
            f"at least {config.honest_sites} sites of every total add their share of the noise (--min-sites less --colluding-sites)"
        )
    if config.masks:
        assumed += [
            f"at most {config.colluding_sites} sites tell the server what they know",
            "the sites' keys are the sites': the coordinator enrols them and could invent sites, unless a site pins a roster",
        ]
    if config.private:
        assumed += [
            "class names, settings and numbers of sites are public, and settings were not tuned on these images",
            "noise is secret: a stream of AES under a key of the operating system",
        ]
    return assumed


def _open(config: RunConfig) -> list[str]:
    """Say what is not protected."""
    left = []
    if config.dp != "site" or config.noise == "shared":
        left.append("who takes part, and when")
    if config.dp == "image":
        left += [
            "a person with many images: one image is the unit; k of them have k times the epsilon, at a delta larger still",
            "validation and test images are not used at all, so nothing is told of them",
        ]
    if config.masks and not config.private:
        left.append(
            "the totals: with few sites, or over several rounds in which one site comes and goes, they tell of it"
        )
    if config.masks:
        left.append("against wrong updates: nobody sees a single one")
    return left


def _strength(config: RunConfig, promised: Guarantee, classes: int, images: int) -> Strength:
    """Compare expected noise and the largest signal."""
    width = config.dimensions or sizes(config.backbone, classes, 1).features
    sites, z, clip = config.participants, promised.noise_multiplier, promised.clip
    helps = "fewer dimensions (--project with --dimensions), more images, or --noise shared with --masks"
    if config.closed_form:
        deviation = total_deviation(config, sites)
        if one_shot_sums(config) == NOISY_GRAM:
            return Strength(
                "noise on the Gram matrix (spectral norm) against its mean eigenvalue",
                deviation * math.sqrt(2 * width), max(images, 1) * clip**2 / width, helps, drowned_at=10.0,
            )  # fmt: skip
        return Strength(
            "noise on a class sum (norm) against the sum of a class of like images, all classes equally large",
            deviation * math.sqrt(width), max(images, 1) * clip / classes, helps,
        )  # fmt: skip
    numbers, steps = (width + 1) * classes, promised.rounds * promised.releases
    if config.dp == "site":
        ratio = z * math.sqrt(numbers / steps) / config.fraction  # times the bound, for one site
        return Strength(
            "noise on the mean update over all rounds (norm) against the bound of a single one",
            ratio * clip / sites, clip,
            f"more sites: the noise is as large as the bound with {math.ceil(ratio):,}; or --dp image",
        )  # fmt: skip
    adding = 1 if config.noise == "shared" else sites  # so many add noise to the sum
    return Strength(
        "noise on the sum of gradients over all steps and sites (norm) against the most that the batches give",
        z * clip * math.sqrt(numbers * adding * steps), config.batch_size * sites * steps * clip,
        "larger batches (--image-rate with --batch-size), fewer steps, or --noise shared with --masks",
    )  # fmt: skip
