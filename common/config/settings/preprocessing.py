"""How a network expects pixels: in one of Keras' modes, or by numbers of one's own."""

import re
from dataclasses import dataclass
from math import isfinite

from fedtransfer.common.support.text import nearest

Channels = tuple[float, float, float]  # red, green, blue, unless said otherwise
MODES = ("auto", "tf", "torch", "caffe", "none")
_NUMBERS = re.compile(r"mean=(\S+)\s+std=(\S+)")
_IMAGENET = "mean=0.485,0.456,0.406 std=0.229,0.224,0.225"
EXAMPLE = f'--preprocessing "{_IMAGENET}"'


@dataclass(frozen=True)
class Scaling:
    """A pixel, RGB from 0 to 255, becomes ``pixel * scale + offset`` for each channel."""

    scale: Channels
    offset: Channels
    bgr: bool = False  # whether the channels are reversed first; then these numbers are in BGR


_CAFFE = Scaling((1.0, 1.0, 1.0), (-103.939, -116.779, -123.68), bgr=True)
_TF = Scaling((1 / 127.5,) * 3, (-1.0,) * 3)


def scaling(preprocessing: str) -> Scaling | None:
    """Return the numbers of a ``--preprocessing`` other than ``auto``; None for ``none``.

    >>> scaling("mean=0.5 std=0.25").offset
    (-2.0, -2.0, -2.0)

    Raises:
        ValueError: it is neither one of Keras' modes nor a mean and deviation.
    """
    if preprocessing == "none":
        return None
    if preprocessing in ("tf", "caffe"):
        return _TF if preprocessing == "tf" else _CAFFE
    mean, deviation = _mean_and_deviation(_IMAGENET if preprocessing == "torch" else preprocessing)
    red, green, blue = ((1 / (255 * s), -m / s) for m, s in zip(mean, deviation, strict=True))
    return Scaling((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))


def refuse_unknown(preprocessing: str) -> None:
    """Raise ValueError: it is neither one of Keras' modes nor a mean and deviation."""
    if preprocessing not in MODES:
        _mean_and_deviation(preprocessing)


def _mean_and_deviation(text: str) -> tuple[Channels, Channels]:
    match = _NUMBERS.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f"preprocessing: got {text!r}; {nearest(text, [*MODES])}, or mean and deviation of each "
            f"channel for pixels of 0 to 1, as in {EXAMPLE}"
        )
    mean, deviation = _channels("mean", match[1]), _channels("std", match[2])
    if min(deviation) <= 0:
        raise ValueError(f"preprocessing: got std={match[2]}; a deviation is above 0, as in {EXAMPLE}")
    if max(abs(value) for value in (*mean, *deviation)) > 1:
        raise ValueError(
            f"preprocessing: got {text!r}; the numbers are for pixels of 0 to 1, as in {EXAMPLE}: "
            "divide those for pixels of 0 to 255 by 255"
        )
    return mean, deviation


def _channels(name: str, text: str) -> Channels:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(map(isfinite, values)):
        raise ValueError(
            f"preprocessing: got {name}={text}; expected one number, or three for red, green and blue, "
            f"as in {EXAMPLE}"
        )
    red, green, blue = values * 3 if len(values) == 1 else values
    return red, green, blue
