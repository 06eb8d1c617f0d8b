"""How large an answer may be: the ServerApp knows its shapes, and the gate before SuperLink asks.

The limit travels as the group of a message, which Flower stores with it and does not use.
"""

import re
from typing import Any

from fedtransfer.common.wire.records import array_bytes, pack

REFUSED_AT_THE_GATE = 9000  # code of the error in place of a refused answer; Flower's end before
LEAST_BYTES = 4 * 2**20  # for what is in no array: counts by class name, keys, a refusal
_MASKED = 2  # a number takes 8 bytes under masks, and 4 without
_FORM = "answer of at most {} bytes"


def group_of(zeros: Any = None) -> str:
    """Return the group of a message, with the most bytes of its answer.

    They are twice those of the arrays in ``zeros``, an answer of the right shapes, since masks
    double them, and 4 MiB. Without ``zeros`` the answer has no arrays to speak of.
    """
    arrays = array_bytes(pack(zeros)) if zeros is not None else 0
    return _FORM.format(LEAST_BYTES + _MASKED * arrays)


def read_limit(group: str) -> int:
    """Return the limit in a message's group, in bytes; the least if it has none."""
    match = re.fullmatch(_FORM.format("([0-9]{1,12})"), group)
    return int(match[1]) if match else LEAST_BYTES
