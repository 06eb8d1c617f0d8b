"""What a method is: one record, which rules, tables, trainers, audits and reports read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

RIDGES = 8  # values of lambda that a one-shot head with --ridge 0 is tried with


@dataclass(frozen=True)
class Sizes:
    """What a method's bytes depend on; each property is the bytes of one kind of sums or heads.

    A number of a head takes 4 bytes, as float32. Convolutions that are trained too take 4 bytes a
    weight, BatchNorm left out. With ``--masks`` a number takes 8 bytes and four more messages go
    each way. With ``--dp`` it takes as many bytes as without. Words and counts, at most 2 KB a
    message, come on top.
    """

    features: int  # d
    classes: int  # C
    rounds: int  # of training
    stage: int  # weights of the convolutions of the backbone's last stage

    @property
    def head(self) -> int:
        """A head: 4 (d + 1) C."""
        return 4 * (self.features + 1) * self.classes

    @property
    def deep_head(self) -> int:
        """A head and the convolutions of the last stage."""
        return self.head + 4 * self.stage

    @property
    def class_sums(self) -> int:
        """Class sums and counts: 4 d C + 8 C."""
        return 4 * self.features * self.classes + 8 * self.classes

    @property
    def gram(self) -> int:
        """A Gram matrix (packed triangle in float64, with a row for the bias), and class sums."""
        d = self.features
        return 8 * ((d + 1) * (d + 2) // 2 + (d + 1) * self.classes)

    @property
    def moments(self) -> int:
        """Sums of features and of their squares in float64: 16 d."""
        return 16 * self.features


Bytes = Callable[[Sizes], int]


def nothing(s: Sizes) -> int:
    """Return 0: no array travels."""
    return 0


def heads(number: int) -> Bytes:
    """Return the bytes of ``number`` heads, as a function of the sizes."""
    return lambda s: number * s.head


HEAD = heads(1)


@dataclass(frozen=True)
class Verdict:
    """Whether a method goes with a protection, and why."""

    allowed: bool  # whether it does; if not, a run with both is refused
    reason: str  # for people, in the refusal as in the table of methods

    def __str__(self) -> str:
        return self.reason if self.allowed else f"refused: {self.reason}"


def refused(reason: str) -> Verdict:
    """Return the verdict that a method does not go with a protection."""
    return Verdict(False, reason)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What travels between a site and the server, what it tells, and which protections go with it.

    Attributes:
        paper: its source.
        sends: what a site sends, in words.
        leaks: what that tells the server of a site's images.
        down, up: bytes to and from a site in one of its rounds.
        before: bytes down and up, once, in addition to the rounds.
        masks: whether secure aggregation (``--masks``) goes with it: the server sees sums alone.
        note: what else to know.
    """

    paper: str
    sends: str
    leaks: str
    down: Bytes
    up: Bytes
    before: tuple[Bytes, Bytes] = (nothing, nothing)
    masks: Verdict
    note: str = ""


UPDATE_LEAKS = (
    "exact label counts (a site says them when it joins);"
    " in round 1 the sum of features of each class, exactly after one step and nearly after more;"
    " of a class with one image that image's features, from which an image can be rebuilt (arXiv 2509.11451)"
)


@dataclass(frozen=True, kw_only=True)
class Method(Exchange):
    """A way to a head, ``--strategy NAME``. The defaults are FedAvg's exchange.

    Example:
        >>> from fedtransfer.common.methods import METHODS
        >>> METHODS["fedprox"].options
        ('proximal',)

    Attributes:
        name: what ``--strategy`` and a site's consent call it.
        title: how its paper spells it.
        options: settings that only this method reads, or a few with it.
        sums: the kind of sums that a one-shot head is made of, of ``common/wire/sums.py``; "" for a
            method with rounds of training.
        weighted: whether ``--weighting`` holds; otherwise every site counts once.
        control_variates: whether sites correct gradients by variates that they keep between rounds.
        adapts: whether its head is made to be adapted, so that runs end with personal heads.
        dp_site: whether ``--dp site`` goes with it: noise on the sum of clipped updates.
        dp_image: whether ``--dp image`` does: noise at the sites.
        refuses: settings that cannot be set with it → the reason, and what to give instead.
    """

    name: str
    title: str
    options: tuple[str, ...] = ()
    sums: str = ""
    weighted: bool = True
    control_variates: bool = False
    adapts: bool = False
    refuses: Mapping[str, str] = field(default_factory=dict)

    sends: str = "n · (change of the head), n"
    leaks: str = UPDATE_LEAKS
    down: Bytes = HEAD
    up: Bytes = HEAD
    masks: Verdict = Verdict(True, "the server uses the sum over sites only")
    dp_site: Verdict = Verdict(True, "clipped updates with --weighting uniform, for 1,000 sites or more")
    dp_image: Verdict = Verdict(True, "DP-SGD at the sites")

    @property
    def ask(self) -> str:
        """How the command line asks for it."""
        return f"--strategy {self.name}"

    @property
    def once(self) -> bool:
        """Whether it is one exchange, whatever ``--rounds`` says."""
        return bool(self.sums)

    @property
    def differential_privacy(self) -> str:
        """Both verdicts about differential privacy, in words."""
        if self.dp_site == self.dp_image:
            return str(self.dp_site)
        return f"--dp image: {self.dp_image}; --dp site: {self.dp_site}"


@dataclass(frozen=True, kw_only=True)
class AddOn(Exchange):
    """An option that adds an exchange to a strategy's, or changes it."""

    ask: str  # how the command line asks for it
    settings: tuple[str, ...]  # the settings that ask for it
    value: str | None = None  # the value of these that does; None for any but the default
    once: bool = False  # whether it is one exchange, whatever ``--rounds`` says
    dp: Verdict  # whether differential privacy (``--dp``) goes with it

    @property
    def differential_privacy(self) -> str:
        """The verdict about differential privacy, in words."""
        return str(self.dp)


# What the one-shot heads share.
SUMS_LEAK = (
    "exact label counts and class means;"
    " the sum of a class with one image is that image's feature vector, from which an image can be rebuilt"
)
SUMS_ADD_UP = Verdict(True, "sums and counts are sent, which add up")
NO_UPDATES = refused("it has no updates to clip, but sums of features; --dp image is for those")
