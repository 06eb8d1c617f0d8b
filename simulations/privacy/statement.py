"""The promises of a configuration before it runs: who learns what, ε, noise and signal."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.privacy_rules import cohort_under_masks
from fedtransfer.common.masks.graph import graph
from fedtransfer.common.privacy.accounting import epsilon_by_orders
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.support.text import counted
from fedtransfer.simulations.methods import sizes
from fedtransfer.simulations.privacy.strength import delta_warning, strength

_NEVER = (
    "That images stay at their sites is no promise of privacy: updates are computed from images, travel, and reveal"
    " much about them.",
    "The final head reveals its training images to whoever gets it: without differential privacy, which images were"
    " among them; with it, no more than epsilon allows.",
)


def statement(config: RunConfig, classes: int, images: int) -> Mapping[str, Any]:
    """Return the promises of a configuration, as texts and numbers by subject.

    Args:
        config: the run's settings.
        classes: C.
        images: training images of all sites together, if that number is public; 0 if unknown.

    Raises:
        UserError: the width of the backbone's features is unknown.
    """
    promised = guarantee(config)
    answers: dict[str, Any] = {
        "learns": _learns(config),
        "assumed": _assumed(config),
        "not_protected": [*_NEVER, *_open(config)],
        "privacy": None,
        "strength": None,
        "warnings": [],
    }
    if promised is None:
        return answers
    rounds = promised.affordable
    answers["privacy"] = {
        "epsilon": promised.epsilon(rounds),
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
    comparison = strength(config, promised, width, classes, images)
    values = asdict(comparison)
    answers["strength"] = {
        "what": values.pop("quantity"),
        **values,
        "ratio": comparison.ratio,
        "drowned": comparison.drowned,
        "words": comparison.words,
    }
    answers["warnings"] = [text for text in (comparison.warning, delta_warning(config, images)) if text]
    return answers


def _learns(config: RunConfig) -> Mapping[str, str]:
    """Return what each party learns."""
    if config.masks and config.private:
        server = f"totals over {_least(config)} of a round, with noise in them"
    elif config.masks:
        server = (
            f"exact totals over {_least(config)} of a round: of their messages, of their images and of their scores"
        )
    elif config.dp == "site":
        server = (
            "every site's update without noise, before the server itself adds it: label counts and features of"
            " small classes"
        )
    elif config.dp == "image":
        server = "what each site sends, with noise that the site has added"
    else:
        server = f"every site's {config.method.sends}; that is {config.method.leaks}"
    every_round = not config.closed_form
    heads = "the head of every round that they take part in" if every_round else "the head"
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
    """Return the assumptions of the promise."""
    if not config.private and not config.masks:
        return ["everybody who sees an update or the head is trusted; --masks and --dp reduce that trust"]
    assumed = []
    if config.dp == "site":
        if config.noise == "alone":
            assumed += [
                "the server is honest: it clips, adds the noise, and reveals nothing of the updates before that"
            ]
            if config.fraction < 1:
                assumed.append(
                    "nobody learns which sites took part in a round: the network and the server's log may reveal it"
                )
        else:
            assumed.append("sites clip their own updates")
    elif config.dp == "image":
        assumed.append("each site runs this program unaltered; for its own images it need trust nobody else")
    if config.noise == "shared":
        assumed.append(
            f"at least {config.honest_sites} sites of every total add their share of the noise"
            " (--min-sites less --colluding-sites)"
        )
    if config.masks:
        colluding = config.colluding_sites
        assumed += [
            f"at most {counted(colluding, 'site')} {'colludes' if colluding == 1 else 'collude'} with the server"
            if colluding
            else "no site colludes with the server",
            "each enrolled key belongs to a real site: the coordinator enrols them and could invent sites, unless a"
            " site pins a roster",
        ]
    if config.private:
        assumed += [
            "class names, settings and numbers of sites are public, and settings were not tuned on these images",
            "noise is secret: a stream of AES under a key of the operating system",
        ]
    return assumed


def _open(config: RunConfig) -> list[str]:
    """Return what is not protected."""
    outsiders = " (those who see neither network nor server learn it only within epsilon)"
    gaps = ["who takes part, and when" + outsiders * (config.dp == "site" and config.noise == "alone")]
    if config.dp == "image":
        gaps += [
            "a person with many images: the unit is one image; for k of them epsilon is k times as large, and delta"
            " grows by more",
            "validation and test images are not used at all, so nothing about them is released",
        ]
    if config.masks and not config.private:
        gaps.append(
            "the totals: with few sites, or over several rounds in which one site comes and goes, they reveal that site"
        )
    if config.masks:
        gaps.append("against wrong updates: nobody sees a single update")
    return gaps
