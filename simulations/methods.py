"""The table of methods: what each sends, its bytes, what the server learns, what protects it."""

from collections.abc import Mapping
from typing import Any

from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError
from fedtransfer.common.methods import METHODS
from fedtransfer.common.methods.add_ons import ADD_ONS
from fedtransfer.common.methods.method import AddOn, Method, Sizes
from fedtransfer.common.support.text import nearest

WIDTHS = {BUNDLED: 256, "resnet50v2": 2048, "resnet101v2": 2048, "resnet152v2": 2048}
_KERAS_BLOCKS = {"conv5": 14_950_400, "conv5_block2": 8_916_992, "conv5_block3": 4_458_496}
# From this layer on, weights of all convolutions: kernels and biases.
CONVOLUTIONS: dict[str, dict[str, int]] = {
    name: _KERAS_BLOCKS if width == 2048 else {"conv5": 2_097_152, "conv5_block2": 1_179_648}
    for name, width in WIDTHS.items()
}
ROWS: tuple[Method | AddOn, ...] = (*METHODS.values(), *ADD_ONS)


def sizes(backbone: str, classes: int, rounds: int) -> Sizes:
    """Return the sizes that the numbers of bytes depend on.

    Raises:
        UserError: the backbone is not in ``WIDTHS``, so its width is unknown until it is loaded.
    """
    if backbone not in WIDTHS:
        raise UserError(f"--backbone: got {backbone!r}; {nearest(backbone, list(WIDTHS))}")
    return Sizes(WIDTHS[backbone], classes, rounds, CONVOLUTIONS[backbone]["conv5"])


def row(method: Method | AddOn, s: Sizes) -> Mapping[str, Any]:
    """Return a method's row: its facts, and its bytes a round and over a whole run.

    Over a run, a strategy's head goes down twice more: for the final scores, and as the result.
    """
    rounds = 1 if method.once else s.rounds
    whole = isinstance(method, Method) or not method.once  # an add-on of one exchange comes on top of a strategy
    down, up = (before(s) for before in method.before)
    return {
        "method": method.ask,
        "paper": method.paper,
        "sends": method.sends,
        "rounds": rounds,
        "bytes_down_a_round": method.down(s),
        "bytes_up_a_round": method.up(s),
        "bytes_down": rounds * method.down(s) + down + 2 * s.head * whole,
        "bytes_up": rounds * method.up(s) + up,
        "leaks": method.leaks,
        "secure_aggregation": f"--masks: {method.masks}",
        "differential_privacy": method.differential_privacy,
        "note": method.note,
    }
