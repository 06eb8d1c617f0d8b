"""Gradual unfreezing (Howard and Ruder 2018, arXiv 1801.06146): which part of the network is trained in which round."""

import re

from fedtransfer.common.config.settings.everything import Settings

_STEP = re.compile(r"\s*(\d+)\s*:\s*([^\s:]+)\s*")


def schedule(config: Settings) -> tuple[tuple[int, str], ...]:
    """Return (round, layer) for each step: from that round on, all from that layer on is trained.

    The first is (1, ``trainable``). That each layer is deeper than the one before is for the backbone to say:
    ``fedtransfer.common.backbone.cut.cuts``.

    Raises:
        ValueError: ``unfreeze_at`` cannot be read, or its rounds do not rise within the run's.
    """
    steps = [(1, config.trainable)]
    for text in config.unfreeze_at.split(",") if config.unfreeze_at else ():
        found = _STEP.fullmatch(text)
        if not found:
            raise ValueError(f"unfreeze-at: got {text!r}; expected ROUND:LAYER, as in 20:conv5_block2,40:conv5")
        step = int(found[1]), found[2]
        if not steps[-1][0] < step[0] <= config.rounds:
            raise ValueError(
                f"unfreeze-at: got round {step[0]} after round {steps[-1][0]} in a run of {config.rounds}; rounds must"
                " rise, from 2 to the last (what is trained from round 1 on is --trainable)"
            )
        if step[1] in ("head", *(layer for _, layer in steps)):
            raise ValueError(
                f"unfreeze-at: {step[1]} is trained from the start or named twice; name deeper layers only"
            )
        steps.append(step)
    return tuple(steps)


def layers(config: Settings) -> tuple[str, ...]:
    """Return all that occur in a run, from the first round's on: sites prepare the features of each at the start."""
    return tuple(layer for _, layer in schedule(config))


def layer_at(config: Settings, round: int) -> str:
    """Return from which layer on a round (1 is the first) trains; ``head`` for the head alone."""
    return [layer for first, layer in schedule(config) if first <= max(round, 1)][-1]
