"""What changes from round to round at the sites: the trained part, and the learning rate."""

import math
import re

from fedtransfer.common.config.settings.everything import Settings

_STEP = re.compile(r"\s*(\d+)\s*:\s*([^\s:]+)\s*")


def schedule(config: Settings) -> tuple[tuple[int, str], ...]:
    """Return (round, layer) for each step: the round from which on that layer and all above train.

    This is gradual unfreezing (Howard and Ruder 2018, arXiv 1801.06146). The first step is (1,
    ``trainable``). ``fedtransfer.common.backbone.cut.cuts`` checks that each layer is deeper than
    the one before.

    Raises:
        ValueError: ``unfreeze_at`` cannot be read, or its rounds do not rise within the run.
    """
    steps = [(1, config.trainable)]
    for text in config.unfreeze_at.split(",") if config.unfreeze_at else ():
        match = _STEP.fullmatch(text)
        if not match:
            raise ValueError(
                f"unfreeze-at: got {text!r}; expected ROUND:LAYER, as in 20:conv5_block2,40:conv5"
            )
        step = int(match[1]), match[2]
        if not steps[-1][0] < step[0] <= config.rounds:
            raise ValueError(
                f"unfreeze-at: got round {step[0]} after round {steps[-1][0]} in a run of {config.rounds};"
                " rounds must rise, from 2 to the last"
                " (--trainable sets the part that is trained from round 1 on)"
            )
        if step[1] in ("head", *(layer for _, layer in steps)):
            raise ValueError(
                f"unfreeze-at: {step[1]} is trained from the start or named twice; name deeper layers only"
            )
        steps.append(step)
    return tuple(steps)


def layers(config: Settings) -> tuple[str, ...]:
    """Return all layers of a run's schedule; sites prepare the features of each at the start."""
    return tuple(layer for _, layer in schedule(config))


def layer_at(config: Settings, round: int) -> str:
    """Return the layer from which on a round (1, 2, …) trains; ``head`` for the head alone."""
    return [layer for first, layer in schedule(config) if first <= max(round, 1)][-1]


FINAL = 0.01  # share of the rate in the last round


def rate(config: Settings, round: int) -> float:
    """Return the factor on the learning rate in a round (1, 2, …).

    Under ``cosine`` it falls from 1 in the first round to ``FINAL`` in the last.
    """
    if config.schedule == "constant":
        return 1.0
    passed = min((round - 1) / (config.rounds - 1), 1.0) if config.rounds > 1 else 0.0
    return FINAL + (1 - FINAL) * (1 + math.cos(math.pi * passed)) / 2
