"""The methods there are: what each sends, how many bytes, what that tells the server, and what could protect it.

Bytes are those of the arrays in a message; at most 2 KB of words and counts stand around them. A site sends and is
sent, with d features, C classes and 4 bytes a float32:

- a head: 4 (d + 1) C; convolutions that are trained too: 4 bytes a weight, BatchNorm left out;
- class sums and counts: 4 d C + 8 C;
- a Gram matrix as its packed triangle in float64, with a row for the bias, and the class sums: 8 ((d+1)(d+2)/2 + (d+1) C);
- moments, the sums of features and of their squares in float64: 16 d.

With ``--masks`` a number takes 8 bytes and four more messages go each way; what ``--dp`` sends is noisy, and takes as many bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import nearest

WIDTHS = {BUNDLED: 256, "resnet50v2": 2048, "resnet101v2": 2048, "resnet152v2": 2048}
_KERAS_BLOCKS = {"conv5": 14_950_400, "conv5_block2": 8_916_992, "conv5_block3": 4_458_496}
# From this layer on, weights of all convolutions: kernels and biases.
CONVOLUTIONS: dict[str, dict[str, int]] = {
    name: _KERAS_BLOCKS if width == 2048 else {"conv5": 2_097_152, "conv5_block2": 1_179_648}
    for name, width in WIDTHS.items()
}
RIDGES = 8  # values of lambda that a one-shot head with --ridge 0 is tried with


@dataclass(frozen=True)
class Sizes:
    """What bytes depend on: d features, C classes, R rounds, and weights of the convolutions of a whole stage."""

    features: int
    classes: int
    rounds: int
    stage: int

    @property
    def head(self) -> int:
        """Bytes of a head."""
        return 4 * (self.features + 1) * self.classes

    @property
    def class_sums(self) -> int:
        """Bytes of class sums and counts."""
        return 4 * self.features * self.classes + 8 * self.classes

    @property
    def gram(self) -> int:
        """Bytes of a packed Gram matrix and of the class sums beside it."""
        d = self.features
        return 8 * ((d + 1) * (d + 2) // 2 + (d + 1) * self.classes)

    @property
    def moments(self) -> int:
        """Bytes of the sums of features and of their squares."""
        return 16 * self.features


Bytes = Callable[[Sizes], int]


@dataclass(frozen=True)
class Method:
    """A method, or an option that changes what is sent.

    Attributes:
        ask: how the command line asks for it.
        paper: its source.
        sends: what a site sends.
        down, up: bytes to and from a site, in one of its rounds.
        leaks: what that tells the server of a site's images.
        masks: whether secure aggregation (``--masks``), which shows the server sums alone, works with it, and why.
        noise: how it goes with differential privacy (``--dp``).
        once: it is one round, however many ``--rounds`` say.
        before: bytes down and up, once, beside the rounds.
        strategy: its name, where it is a strategy.
        note: what else to know.
    """

    ask: str
    paper: str
    sends: str
    down: Bytes
    up: Bytes
    leaks: str
    masks: str
    noise: str
    once: bool = False
    before: tuple[Bytes, Bytes] = field(default=(lambda s: 0, lambda s: 0))
    strategy: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """The strategy's name; "" for an option."""
        return self.strategy


_UPDATE = "n · (change of the head), n"
_UPDATE_LEAKS = (
    "exact label counts (a site says them when it joins); in round 1 the sum of features of each class, exactly"
    " after one step and nearly after more; of a class with one image that image's features, from which an image"
    " can be rebuilt (arXiv 2509.11451)"
)
_MASKED_SUM = "--masks: the server uses the sum over sites only"
_BY_EXAMPLE = (
    "--dp image: DP-SGD at the sites; --dp site: clipped changes with --weighting uniform, for 1,000 sites or more"
)
_AFTER = "as fedavg: what the server does with the sum costs no privacy"
_SUMS_LEAK = (
    "exact label counts and class means; the sum of a class with one image is that image's feature vector, from which"
    " an image can be rebuilt"
)


def _head(s: Sizes) -> int:
    return s.head


def _updates(
    strategy: str, paper: str, leaks: str = "as fedavg", masks: str = _MASKED_SUM, noise: str = _AFTER
) -> Method:
    return Method(f"--strategy {strategy}", paper, _UPDATE, _head, _head, leaks, masks, noise, strategy=strategy)


def _tried(heads: int) -> Bytes:
    return lambda s: heads * s.head


METHODS: tuple[Method, ...] = (
    _updates("fedavg", "arXiv 1602.05629; momentum: 1909.06335", _UPDATE_LEAKS, noise=_BY_EXAMPLE),
    _updates("fedprox", "arXiv 1812.06127", noise="as fedavg"),
    Method(
        "--strategy scaffold", "arXiv 1910.06378",
        "n · (change of the head), n, change of its control variate (not weighted)",
        lambda s: 2 * s.head, lambda s: 2 * s.head,
        "as fedavg; the variate is the site's mean gradient once more, over the whole round",
        "--masks: two sums",
        "refused: its variates would be a second release a round", strategy="scaffold",
        note="a site keeps its variate on its own disk",
    ),
    _updates("fedadam", "arXiv 2003.00295"),
    _updates("fedyogi", "arXiv 2003.00295"),
    _updates("fedadagrad", "arXiv 2003.00295"),
    _updates("fedopt", "arXiv 2003.00295, with the optimizers of Keras"),
    Method(
        "--strategy reptile", "arXiv 1803.02999", "change of the head, n", _head, _head, "as fedavg", _MASKED_SUM,
        "--dp image; --dp site without more: every site counts the same", strategy="reptile",
    ),
    Method(
        "--strategy perfedavg", "arXiv 2002.07948, first order", _UPDATE, _head, _head,
        "as fedavg, of gradients after a step of the site's own", _MASKED_SUM,
        "refused: its gradients, of two batches each, have no bound in closed form", strategy="perfedavg",
    ),
    _updates(
        "median", "arXiv 1803.01498", masks="refused: the server must see every site's update",
        noise="--dp image; not --dp site, since there is no sum for noise",
    ),
    _updates(
        "trimmed-mean", "arXiv 1803.01498", masks="refused: the server must see every site's update",
        noise="--dp image; not --dp site, since there is no sum for noise",
    ),
    Method(
        "--strategy fedncm", "arXiv 2306.03937", "sum of features and number of images of each class", lambda s: 0,
        lambda s: s.class_sums, _SUMS_LEAK, "--masks: sums and counts are sent, not means",
        "--dp image: Gaussian noise on sums of clipped features, once; counts are not sent, nor heads tried", once=True,
        before=(_tried(1), lambda s: 0), strategy="fedncm",
    ),
    Method(
        "--strategy fed3r", "arXiv 2406.01116; --lda: 2503.06962, 2602.01186",
        "Gram matrix of features with a 1, in float64, and sums of features and numbers of images of each class",
        lambda s: 0, lambda s: s.gram,
        f"{_SUMS_LEAK}; of a site with fewer images than features, the space that its features span; of a site with one"
        " image, its features exactly",
        "--masks: sums only",
        "--dp image: Gaussian noise on both sums of clipped features, once, without counts or a 1; at 2,048 features it hides"
        " all but few directions, so with --project", once=True, before=(_tried(RIDGES), lambda s: 0), strategy="fed3r",
        note="--lda sends the same",
    ),
    Method(
        "--strategy fedcof", "arXiv 2412.14326", "sum of features and number of images of each class", lambda s: 0,
        lambda s: s.class_sums, _SUMS_LEAK,
        "refused: the server must see every site's own class means, whose scatter it takes for the covariance",
        "refused: noise must hide the class means of every single site", once=True, before=(_tried(RIDGES), lambda s: 0),
        strategy="fedcof",
    ),
    Method(
        "--init fedncm|fed3r|fedcof", "arXiv 2306.03937, 2406.01116, 2412.14326",
        "the one-shot head's sums, once (counted here: fed3r), then as the strategy", _head, _head,
        "what the one-shot head's sums do, and what the strategy does", "as the two", "refused: the sums would be a release of their own",
        before=(_tried(RIDGES), lambda s: s.gram),
    ),
    Method(
        "--personal-epochs N", "arXiv 1909.12488; mixing: 2003.13461",
        "once, in the end: images of its test split, and how many four heads get right", _head, lambda s: 0,
        "accuracy at the site of its own heads; the heads themselves stay there", "--masks: counts add up",
        "refused: the counts would want noise of their own (a site may fine-tune its result by itself)",
        once=True,
    ),
    Method(
        "--trainable LAYER", "He et al. 2016, arXiv 1603.05027; head first: 2202.10054",
        "n · (change of head and convolutions from LAYER on; counted here: conv5), n", lambda s: s.head + 4 * s.stage,
        lambda s: s.head + 4 * s.stage,
        "as fedavg, and far more: gradients of convolutions are what images are best rebuilt from", "as the strategy",
        "refused: noise on so many more numbers would drown them", note="features are stored where the network is cut",
    ),
    Method(
        "--unfreeze-at ROUND:LAYER", "arXiv 1801.06146",
        "as --trainable LAYER from ROUND on, and the head alone before (counted here: conv5 in all rounds)",
        lambda s: s.head + 4 * s.stage, lambda s: s.head + 4 * s.stage, "as --trainable", "as the strategy",
        "as --trainable",
    ),
    Method(
        "--standardise federated", "sums of x and x²", "sums of features and of their squares, once",
        lambda s: 0, lambda s: s.moments,
        "mean and deviation of the site's features; of a site with one image, its features",
        "--masks: sums only", "refused: public statistics cost nothing (--standardise public)", once=True,
        note="every later message to a site carries mean and deviation too",
    ),
    Method(
        "--ema DECAY, --interpolate", "arXiv 2109.01903",
        "once, in the end, counts and losses of heads between two: on one curve with --ema, on two with --interpolate", lambda s: 6 * s.head,
        lambda s: 0, "as any scores do", "--masks: counts add up", "--ema with --public-data; --interpolate is refused", once=True,
        note="three curves, each from two heads that are sent",
    ),
)  # fmt: skip


def sizes(backbone: str, classes: int, rounds: int) -> Sizes:
    """Return what bytes depend on.

    Raises:
        UserError: the width of the backbone is not known without loading it.
    """
    if backbone not in WIDTHS:
        raise UserError(f"--backbone: got {backbone!r}; {nearest(backbone, list(WIDTHS))}")
    return Sizes(WIDTHS[backbone], classes, rounds, CONVOLUTIONS[backbone]["conv5"])


def told(method: Method, s: Sizes) -> Mapping[str, Any]:
    """Return all there is to say of a method, with its bytes a round and over a whole run.

    Over a run, a strategy's head goes down twice more: to be scored, and as the result.
    """
    rounds = 1 if method.once else s.rounds
    whole = bool(method.strategy) or not method.once  # an option in one exchange comes on top of some strategy
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
        "secure_aggregation": method.masks,
        "differential_privacy": method.noise,
        "note": method.note,
    }
