"""What a method is: one record, which rules, tables, trainers, audits and reports read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedtransfer.common.methods.sizes import Bytes, heads, nothing

HEAD = heads(1)


@dataclass(frozen=True)
class Verdict:
    """Whether a method goes with a protection, and why.

    Attributes:
        allowed: whether it does; if not, a run with both is refused.
        reason: for people, in the refusal as in the table of methods.
    """

    allowed: bool
    reason: str

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
    "exact label counts (a site says them when it joins); in round 1 the sum of features of each class,"
    " exactly after one step and nearly after more; of a class with one image that image's features, from which"
    " an image can be rebuilt (arXiv 2509.11451)"
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
    """An option that adds an exchange to a strategy's, or changes it.

    Attributes:
        ask: how the command line asks for it.
        settings: the settings that ask for it.
        value: the value of these that does; None for any but the default.
        once: whether it is one exchange, whatever ``--rounds`` says.
        dp: whether differential privacy (``--dp``) goes with it.
    """

    ask: str
    settings: tuple[str, ...]
    value: str | None = None
    once: bool = False
    dp: Verdict

    @property
    def differential_privacy(self) -> str:
        """The verdict about differential privacy, in words."""
        return str(self.dp)
