"""SettingsGroup of the rounds, of the server's strategy, and of what is trusted."""

from typing import Literal

from pydantic import field_validator

from fedtransfer.common.config.settings.option import SettingsGroup, option
from fedtransfer.common.methods import METHODS, ONE_SHOT
from fedtransfer.common.methods.outside import NAME
from fedtransfer.common.support.text import nearest

FIRST_HEADS = ("zeros", *ONE_SHOT)


class FederationSettings(SettingsGroup):
    """Rounds, cohorts and classes."""

    rounds: int = option(100, "Federation", "Rounds of training.", ge=1)
    weighting: Literal["examples", "uniform"] = option(
        "examples", "Federation", "What a site's update counts for: its number of training images, or the same for all."
    )
    fraction: float = option(1.0, "Federation", "Share of the sites that train in a round (at least one).", gt=0, le=1)
    cohort_size: int = option(0, "Federation", "Number of sites that train in a round (0: by --fraction).", ge=0)
    sampling: Literal["fixed", "poisson"] = option(
        "fixed",
        "Federation",
        "Cohorts of fixed size, or each site by its own draw with probability --fraction (an empty round changes nothing).",
    )
    early_stopping: int = option(
        0,
        "Federation",
        "Stop when the federated validation loss has not improved for this many rounds (0: run all of them).",
        ge=0,
    )
    classes: Literal["union", "declared"] = option(
        "union",
        "Federation",
        "The federation's classes: all that some site has, or those of --class-names only; a site may lack some"
        " of these, but one that has another is refused.",
    )
    class_names: str = option("", "Federation", "With --classes declared: the class names, separated by commas.")


class StrategySettings(SettingsGroup):
    """What the server does with the sites' answers."""

    strategy: str = option(
        "fedavg",
        "Strategy",
        "How the server turns updates into the next head; module:NAME is one of your own.",
        (*METHODS, "module:NAME"),
    )
    init: str = option(
        "zeros",
        "Strategy",
        "What the first round begins at: zeros, or a one-shot head made of sums that sites send.",
        FIRST_HEADS,
    )
    server_learning_rate: float = option(0.3, "Strategy", "Step of the server along the combined update.", gt=0)
    server_momentum: float = option(
        0.9,
        "Strategy",
        "Momentum of the server (in fedadam, fedyogi and fedadagrad: beta 1); 0 with --server-learning-rate 1 is plain FedAvg.",
        ge=0,
        lt=1,
    )
    second_momentum: float = option(
        0.99, "Strategy", "Beta 2 of fedadam and fedyogi: decay of the squared updates.", ge=0, lt=1
    )
    adaptivity: float = option(
        0.01, "Strategy", "Tau of fedadam, fedyogi and fedadagrad: the smaller, the more they adapt.", gt=0
    )
    proximal: float = option(
        0.01, "Strategy", "Mu of fedprox: how strongly a site is held near the head it was sent.", gt=0
    )
    trim: float = option(
        0.1, "Strategy", "Share of the sites that trimmed-mean leaves out at each end, in each entry.", gt=0, lt=0.5
    )
    inner_rate: float = option(
        1.0, "Strategy", "Alpha of perfedavg: rate of the step after which its gradient is taken.", gt=0
    )
    ridge: float = option(
        0.0,
        "Strategy",
        "Lambda of fed3r and fedcof, on the scale of the summed Gram matrix (0: chosen by the sites' validation loss).",
        ge=0,
    )
    lda: bool = option(
        False, "Strategy", "fed3r: linear discriminant analysis, by the scatter within classes, in place of ridge."
    )

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, name: str) -> str:
        if ":" in name and not NAME.fullmatch(name):
            raise ValueError(f"strategy: got {name!r}; expected module:NAME, such as my_module:MY_STRATEGY")
        if ":" not in name and name not in METHODS:
            raise ValueError(f"strategy: got {name!r}; {nearest(name, [*METHODS])}")
        return name

    @field_validator("init")
    @classmethod
    def _known_first_head(cls, name: str) -> str:
        if name not in FIRST_HEADS:
            raise ValueError(f"init: got {name!r}; {nearest(name, [*FIRST_HEADS])}")
        return name


class TrustSettings(SettingsGroup):
    """What is waited for, and what is let in."""

    min_sites: int = option(
        0,
        "Trust",
        "Least number of sites whose answers a round needs (0: half of its cohort; with --masks two thirds, and 3 at"
        " least).",
        ge=0,
    )
    join_timeout: float = option(
        120.0,
        "Trust",
        "Seconds to wait for all sites to connect; with --engine deployment, which starts them all on this machine, this for each site.",
        gt=0,
    )
    round_timeout: float = option(3600.0, "Trust", "Seconds to wait for the answers of a round.", gt=0)
    round_retries: int = option(
        2, "Trust", "Times that a round with too few usable answers is tried again before the run stops.", ge=0
    )
    max_update_norm: float = option(
        0.0, "Trust", "Refuse an update whose Euclidean norm is above this (0: no bound).", ge=0
    )
    max_examples: int = option(
        0, "Trust", "Refuse an update that claims more training images than this (0: no bound).", ge=0
    )
