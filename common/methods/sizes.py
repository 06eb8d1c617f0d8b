"""What the bytes of a method depend on. A number of a head takes 4 bytes, as float32.

With d features and C classes a site sends, or is sent:

- a head: 4 (d + 1) C; convolutions that are trained too: 4 bytes a weight, BatchNorm left out;
- class sums and counts: 4 d C + 8 C;
- a Gram matrix as its packed triangle in float64, with a row for the bias, and the class sums:
  8 ((d+1)(d+2)/2 + (d+1) C);
- moments, the sums of features and of their squares in float64: 16 d.

With ``--masks`` a number takes 8 bytes and four more messages go each way. With ``--dp`` it takes
as many bytes as without. Words and counts, at most 2 KB a message, come on top.
"""

from collections.abc import Callable
from dataclasses import dataclass

RIDGES = 8  # values of lambda that a one-shot head with --ridge 0 is tried with


@dataclass(frozen=True)
class Sizes:
    """What bytes depend on.

    Attributes:
        features: d.
        classes: C.
        rounds: of training.
        stage: weights of the convolutions of the backbone's last stage.
    """

    features: int
    classes: int
    rounds: int
    stage: int

    @property
    def head(self) -> int:
        """Bytes of a head."""
        return 4 * (self.features + 1) * self.classes

    @property
    def deep_head(self) -> int:
        """Bytes of a head and of the convolutions of the last stage."""
        return self.head + 4 * self.stage

    @property
    def class_sums(self) -> int:
        """Bytes of class sums and counts."""
        return 4 * self.features * self.classes + 8 * self.classes

    @property
    def gram(self) -> int:
        """Bytes of a packed Gram matrix and of the class sums next to it."""
        d = self.features
        return 8 * ((d + 1) * (d + 2) // 2 + (d + 1) * self.classes)

    @property
    def moments(self) -> int:
        """Bytes of the sums of features and of their squares."""
        return 16 * self.features


Bytes = Callable[[Sizes], int]


def nothing(s: Sizes) -> int:
    """Return 0: no array travels."""
    return 0


def heads(number: int) -> Bytes:
    """Return the bytes of ``number`` heads, as a function of the sizes."""
    return lambda s: number * s.head
