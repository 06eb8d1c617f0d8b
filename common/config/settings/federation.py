"""Settings of the federation: rounds, the server's strategy, trust, privacy, where a run runs."""

from typing import Literal

from pydantic import field_validator

from fedtransfer.common.config.settings.option import SettingsGroup, option
from fedtransfer.common.methods import METHODS, ONE_SHOT, OUTSIDE_NAME
from fedtransfer.common.support.text import nearest

FIRST_HEADS = ("zeros", *ONE_SHOT)
Attack = Literal["none", "sign-flip", "label-flip", "backdoor", "small-shift", "inner-product"]


class FederationSettings(SettingsGroup):
    """Rounds, cohorts and classes."""

    panel = "Federation"
    rounds: int = option(100, ge=1)
    """Rounds of training."""
    weighting: Literal["examples", "uniform"] = option("examples")
    """What a site's update counts for: its number of training images, or the same for all."""
    fraction: float = option(1.0, gt=0, le=1)
    """Share of the sites that train in a round (at least one)."""
    cohort_size: int = option(0, ge=0)
    """Number of sites that train in a round (0: by --fraction)."""
    sampling: Literal["fixed", "poisson"] = option("fixed")
    """Cohorts of fixed size, or each site by its own draw with probability --fraction
    (an empty round changes nothing)."""
    early_stopping: int = option(0, ge=0)
    """Stop when the federated validation loss has not improved for this many rounds
    (0: run all of them)."""
    classes: Literal["union", "declared"] = option("union")
    """The federation's classes: all that some site has, or those of --class-names only; a site may
    lack some of these, but one that has another is refused."""
    class_names: str = option("")
    """With --classes declared: the class names, separated by commas."""


class StrategySettings(SettingsGroup):
    """What the server does with the sites' answers."""

    panel = "Strategy"
    strategy: str = option("fedavg", (*METHODS, "module:NAME"))
    """How the server turns updates into the next head; module:NAME is one of your own."""
    init: str = option("zeros", FIRST_HEADS)
    """What the first round begins at: zeros, or a one-shot head made of sums that sites send."""
    server_learning_rate: float = option(0.3, gt=0)
    """Step of the server along the combined update."""
    server_momentum: float = option(0.9, ge=0, lt=1)
    """Momentum of the server (in fedadam, fedyogi and fedadagrad: beta 1); 0 with
    --server-learning-rate 1 is plain FedAvg."""
    second_momentum: float = option(0.99, ge=0, lt=1)
    """Beta 2 of fedadam and fedyogi: decay of the squared updates."""
    adaptivity: float = option(0.01, gt=0)
    """Tau of fedadam, fedyogi and fedadagrad: the smaller, the more they adapt."""
    proximal: float = option(0.01, gt=0)
    """Mu of fedprox: how strongly a site is held near the head it was sent."""
    trim: float = option(0.1, gt=0, lt=0.5)
    """Share of the sites that trimmed-mean leaves out at each end, in each entry."""
    inner_rate: float = option(1.0, gt=0)
    """Alpha of perfedavg: rate of the step after which its gradient is taken."""
    ridge: float = option(0.0, ge=0)
    """Lambda of fed3r, fedcof and robust-lda, on the scale of the summed Gram matrix
    (0: chosen by the sites' validation loss)."""
    lda: bool = option(False)
    """fed3r: linear discriminant analysis, by the scatter within classes, in place of ridge."""

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, name: str) -> str:
        if ":" in name and not OUTSIDE_NAME.fullmatch(name):
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

    panel = "Trust"
    min_sites: int = option(0, ge=0)
    """Least number of sites whose answers a round needs (0: half of its cohort;
    with --masks two thirds, and 3 at least)."""
    join_timeout: float = option(120.0, gt=0)
    """Seconds to wait for all sites to connect; with --engine deployment,
    which starts them all on this machine, this for each site."""
    round_timeout: float = option(3600.0, gt=0)
    """Seconds to wait for the answers of a round."""
    round_retries: int = option(2, ge=0)
    """Times that a round with too few usable answers is tried again before the run stops."""
    max_update_norm: float = option(0.0, ge=0)
    """Refuse an update whose Euclidean norm is above this (0: above ten times the median of a
    round, and more for a site that makes more steps than the median)."""
    max_examples: int = option(0, ge=0)
    """Refuse a site that reports more training, validation or test images than this
    (0: no bound)."""


class PrivacySettings(SettingsGroup):
    """Differential privacy and secure aggregation."""

    panel = "Privacy"
    dp: Literal["none", "site", "image"] = option("none")
    """Differential privacy: of a site's taking part (the server clips updates and adds noise to
    their sum, and is trusted), or of each training image (noise at each site, which need not trust
    the server; with --strategy fedncm or fed3r on their sums, once)."""
    epsilon: float = option(0.0, ge=0)
    """Epsilon that the run may spend. The noise that it takes is found from it; with
    --noise-multiplier too, the run stops before it would spend more (0: no bound,
    the noise is given)."""
    delta: float = option(1e-5, gt=0, lt=0.1)
    """Delta of the guarantee; below 1 / number of protected units."""
    noise_multiplier: float = option(0.0, ge=0)
    """Standard deviation of the noise on a sum over what one unit can change it by (0: found from
    --epsilon)."""
    clip: float = option(1.0, gt=0)
    """Bound of what one unit adds: Euclidean norm of a site's update, or of an image's gradient
    (one-shot heads: of its features, which have length 1)."""
    image_rate: float = option(0.05, gt=0, le=1)
    """With --dp image: chance of each training image to be in a step's batch. Sums over a batch are
    divided by --batch-size: a larger one makes smaller steps and so damps noise; with few images
    leave it above this share of a site's images."""
    local_steps: int = option(0, ge=0)
    """With --dp image: steps at a site in a round (0: --local-epochs passes,
    1 / --image-rate steps each)."""
    noise: Literal["alone", "shared"] = option("alone")
    """Who adds the noise: the server (--dp site) or each site all of it for itself (--dp image);
    shared: with --masks, every site adds a share, so that the sum over --min-sites of them is
    private, and no site's update is seen."""
    masks: bool = option(False)
    """Secure aggregation: sites mask what they send, and the server learns totals over at least
    --min-sites of them only."""
    colluding_sites: int = option(0, ge=0)
    """With --masks: number of sites that may collude with the server
    without exposing the others."""
    public_data: str = option("")
    """Public labelled images at the server (folder, manifest, archive or data set): heads are
    scored on them in each round, in place of the sites' own."""


class AttackSettings(SettingsGroup):
    """Hostile sites of a simulation."""

    panel = "Attack"
    hostile_sites: int = option(0, ge=0)
    """Number of simulated sites that attack the head, drawn by the seed."""
    attack: Attack = option("none")
    """What hostile sites do: send the opposite of what they learnt, take one class for another,
    plant a pattern that stands for a class, or send a small shift that hides among updates."""
    attack_scale: float = option(1.0, gt=0)
    """Factor on the updates of hostile sites, which are no longer than admission lets in."""


class RunSettings(SettingsGroup):
    """How and where it runs."""

    panel = "Run"
    seed: int = option(0, ge=0)
    """Seed of every random choice."""
    engine: Literal["inprocess", "ray", "deployment"] = option("inprocess")
    """What carries the messages between server and sites: this process, Flower's Ray engine, or
    real processes with TLS and keys on this machine."""
    ray_address: str = option("")
    """Ray cluster to use with --engine ray (default: one on this machine)."""
    client_cpus: float = option(1.0, gt=0)
    """CPU cores a site's work takes, with --engine ray."""
    client_gpus: float = option(0.0, ge=0)
    """GPUs, or a share of one, that a site's work takes, with --engine ray."""
    threads: int = option(0, ge=0)
    """Sites trained and image batches extracted at a time (0: one a core).
    Results do not depend on it."""
    baselines: bool = option(True)
    """Train the baselines of a simulation too: pooled, local only, majority class."""
    models: bool = option(True)
    """Write the best and the last head as models from images to classes too. `fedtransfer predict`
    needs none."""
    export: Literal["auto", "keras", "onnx"] = option("auto")
    """Format of these models: model.keras or model.onnx; auto: that of the backbone's file, Keras
    for those that have none."""
    out: str = option("")
    """Run folder (default: runs/DATA-DATE-TIME)."""
    store: str = option("")
    """Folder of the feature store (default: ~/.cache/fedtransfer/features)."""
    prepared: str = option("", hidden=True)
    """Folder of `fedtransfer simulate --prepare`, whose sites Flower's own simulation works for."""
    resume: bool = option(False)
    """Go on with the run in the run folder."""
    log_json: str = option("")
    """File to which one JSON line an event is added (-: standard error)."""
    callbacks: str = option("")
    """What else looks on: mlflow, or module:Class, separated by commas."""
