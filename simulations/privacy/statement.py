"""What a configuration promises of privacy, in words and numbers, before it runs: who learns what, ε, noise and signal."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.privacy_rules import cohort_under_masks
from fedtransfer.common.masks.graph import graph
from fedtransfer.common.privacy.accounting import epsilon_by_orders
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.simulations.methods import sizes
from fedtransfer.simulations.privacy.strength import delta_warning, strength

_NEVER = (
    "That images stay at their sites is no promise of privacy: what is made of them travels, and tells of them.",
    "The head that comes out tells of its training images, whoever gets it: without differential privacy it says"
    " which were in it, and with it no more than epsilon allows.",
)


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
        "warnings": [],
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
    width = config.dimensions or sizes(config.backbone, classes, 1).features
    found = strength(config, promised, width, classes, images)
    told["strength"] = {
        **asdict(found),
        "ratio": found.ratio,
        "drowned": found.drowned,
        "words": found.words,
    }
    told["warnings"] = [text for text in (found.warning, delta_warning(config, images)) if text]
    return told


def _learns(config: RunConfig) -> Mapping[str, str]:
    """Say who learns what."""
    if config.masks and config.private:
        server = f"totals over {_least(config)} of a round, with noise in them"
    elif config.masks:
        server = (
            f"totals over {_least(config)} of a round, exactly: of what they send, of their images and of their scores"
        )
    elif config.dp == "site":
        server = "every site's update as it is, before the server itself adds noise: label counts and features of small classes"
    elif config.dp == "image":
        server = "what each site sends, with noise in it that the site has added"
    else:
        server = f"every site's {config.method.sends}; that is {config.method.leaks}"
    every_round = not config.closed_form
    heads = "the head of every round that they take part in" if every_round else "the head"
    return {
        "server": server,
        "sites": f"{heads}, and so what that tells of the others' images",
        "network": "nothing but sizes and times: messages go over TLS in a deployment",
    }


def _least(config: RunConfig) -> str:
    """Say over how many sites a total is."""
    if config.partition == "natural":  # how many sites there are is seen from the data
        return f"at least {config.min_sites or 'two thirds (and three)'} of the sites"
    sites = cohort_under_masks(config)
    return f"at least {graph(sites, config).least} of {sites} sites"


def _assumed(config: RunConfig) -> list[str]:
    """Say what must hold for the promise to hold."""
    if not config.private and not config.masks:
        return ["everybody who sees an update or the head is trusted: --masks and --dp are what would spare that"]
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
            f"at most {config.colluding_sites} {'site tells' if config.colluding_sites == 1 else 'sites tell'} the server what they know"
            if config.colluding_sites
            else "no site tells the server what it knows",
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
    seen = " (those who see neither network nor server learn it only within epsilon)"
    left = ["who takes part, and when" + seen * (config.dp == "site" and config.noise == "alone")]
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
