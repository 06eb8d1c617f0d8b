"""The run config: one typed, validated object behind the command line, TOML files and Flower's run config.

Flower's run config is flat, knows neither lists nor null and overrides only keys that are present in
``pyproject.toml``; so every field here is a string, number or boolean, and 0 or "" says "not set".
"""

from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.combinations import refuse_contradictions
from common.words import nearest

Value = str | int | float | bool
BUNDLED = "resnet18v2-tinyimagenet"
KERAS_BACKBONES = {"resnet50v2": "ResNet50V2", "resnet101v2": "ResNet101V2", "resnet152v2": "ResNet152V2"}

Optimizer = Literal[
    "sgd", "momentum", "nesterov", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta", "rmsprop", "adafactor",
    "lion", "ftrl",
]  # fmt: skip

Strategy = Literal["fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "median", "trimmed-mean"]


def option(default: Value, panel: str, help: str, **bounds: Any) -> Any:
    """Declare a field: default, panel of ``--help`` ("": no option), help text and bounds."""
    return Field(default, description=help, json_schema_extra={"panel": panel}, **bounds)


class RunConfig(BaseModel):
    """All that determines a run. Keys are spelt with hyphens outside Python (``local-epochs``)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
    )

    data: str = option(
        "cifar10-demo",
        "Data",
        "A data set by name (cifar10-demo, cifar10, cifar100, fashion-mnist, mnist), a folder with a folder"
        " a class, a CSV manifest (path,label[,split][,group]) or an .npz archive.",
        min_length=1,
    )
    sites: int = option(
        10, "Data", "Number of sites (with --partition natural: taken from the data).", ge=1, le=100_000
    )
    partition: Literal["iid", "dirichlet", "pathological", "natural"] = option(
        "dirichlet",
        "Data",
        "How images are spread over sites; natural: each folder of --data is a site with its class folders.",
    )
    alpha: float = option(
        0.3, "Data", "Dirichlet concentration: the smaller, the more the sites differ in classes.", gt=0
    )
    classes_per_site: int = option(2, "Data", "Classes at each site (with --partition pathological).", ge=1)
    min_images: int = option(10, "Data", "Least number of images a simulated site must get.", ge=1)
    test_fraction: float = option(
        0.2, "Data", "Share set aside for test where the data supply no test split.", gt=0, lt=1
    )
    validation_fraction: float = option(
        0.2, "Data", "Share of the rest used for validation where the data supply no validation split.", gt=0, lt=1
    )
    strict: bool = option(
        False, "Data", "Stop at the first image that cannot be read, instead of listing and skipping it."
    )

    backbone: str = option(
        BUNDLED,
        "Backbone",
        f"The frozen, pretrained network that turns images into features: {BUNDLED} (bundled),"
        f" {', '.join(KERAS_BACKBONES)}, or a Keras model file of your own (.keras, .h5).",
    )
    weights: str = option(
        "",
        "Backbone",
        "Weights for a ResNet50/101/152V2: a file (.weights.h5, .h5, .keras) or the prefix of a TensorFlow checkpoint"
        " (default: ImageNet weights through Keras' own cache and download).",
    )
    preprocessing: Literal["auto", "tf", "torch", "caffe", "none"] = option(
        "auto",
        "Backbone",
        "How the weights expect pixels, in Keras' names; auto: as the model file does itself, or else tf, to [-1, 1].",
    )
    resolution: int = option(
        0, "Backbone", "Pixels a side that images are resized to (0: the backbone's own, 64 or 224).", ge=0
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        "Backbone",
        "Number format inside the backbone; bfloat16 is faster where GPU or CPU have it, and has its own features.",
    )

    normalise: bool = option(
        True,
        "Head",
        "Centre features by the backbone's public mean, where it has one, and scale each to length 1 (no: take them raw).",
    )
    hidden_units: int = option(0, "Head", "Units of one hidden ReLU layer (0: a single softmax layer).", ge=0)
    dropout: float = option(0.0, "Head", "Dropout rate on the head's input.", ge=0, lt=1)
    l1: float = option(0.0, "Head", "L1 penalty on the head's weights.", ge=0)
    l2: float = option(0.0, "Head", "L2 penalty on the head's weights.", ge=0)

    local_epochs: int = option(1, "Training at a site", "Passes over a site's images each round.", ge=1)
    batch_size: int = option(32, "Training at a site", "Images a step.", ge=1)
    learning_rate: float = option(
        4.0, "Training at a site", "Rate of the site's optimizer (Adam and its kin want about 0.001).", gt=0
    )
    optimizer: Optimizer = option("sgd", "Training at a site", "A Keras optimizer; its state starts anew each round.")
    patience: int = option(
        0,
        "Training at a site",
        "Stop a site's local epochs when its validation loss has not improved for this many, and take its"
        " best epoch (0: run all of them).",
        ge=0,
    )

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
    min_delta: float = option(0.0, "Federation", "Least fall of that loss that counts as an improvement.", ge=0)

    strategy: Strategy = option("fedavg", "Strategy", "How the server turns updates into the next head.")
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

    classes: Literal["found", "declared"] = option(
        "found",
        "Federation",
        "The federation's classes: all that are found at the sites, or those of --class-names only; a site may lack some"
        " of these, but one that has another is refused.",
    )
    class_names: str = option("", "Federation", "With --classes declared: the class names, separated by commas.")

    min_sites: int = option(
        0, "Trust", "Least number of sites whose answers a round needs (0: half of those that are asked).", ge=0
    )
    join_timeout: float = option(120.0, "Trust", "Seconds to wait for all sites to connect.", gt=0)
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

    seed: int = option(0, "Run", "Seed of every random choice.", ge=0)
    engine: Literal["inprocess", "ray", "deployment"] = option(
        "inprocess",
        "Run",
        "What carries the messages between server and sites: this process, Flower's Ray engine, or real processes with"
        " TLS and keys on this machine.",
    )
    ray_address: str = option("", "Run", "Ray cluster to use with --engine ray (default: one on this machine).")
    client_cpus: float = option(1.0, "Run", "CPU cores a site's work takes, with --engine ray.", gt=0)
    client_gpus: float = option(
        0.0, "Run", "GPUs, or a share of one, that a site's work takes, with --engine ray.", ge=0
    )
    threads: int = option(
        0,
        "Run",
        "Sites trained and image batches extracted at a time (0: one a core). Results do not depend on it.",
        ge=0,
    )
    out: str = option("", "Run", "Run folder (default: runs/DATA-DATE-TIME).")
    store: str = option("", "Run", "Folder of the feature store (default: ~/.cache/fedtransfer/features).")
    prepared: str = option(
        "", "", "Folder of `fedtransfer simulate --prepare`, whose sites Flower's own simulation works for."
    )
    resume: bool = option(False, "Run", "Go on with the run in the run folder.")
    log_json: str = option("", "Run", "File to which one JSON line an event is added (-: standard error).")
    callbacks: str = option("", "Run", "What else looks on: mlflow, or module:Class, separated by commas.")

    @model_validator(mode="after")
    def _refuse_what_does_not_combine(self) -> Self:
        if self.backbone not in (BUNDLED, *KERAS_BACKBONES) and not self.backbone.endswith((".keras", ".h5")):
            names = nearest(self.backbone, [BUNDLED, *KERAS_BACKBONES])
            raise ValueError(f"backbone: got {self.backbone!r}; {names}, or a Keras model file (.keras or .h5)")
        if self.backbone == BUNDLED and self.preprocessing != "auto":
            raise ValueError(f"preprocessing: {BUNDLED} has its own inside; leave it at auto")
        if self.weights and self.backbone not in KERAS_BACKBONES:
            raise ValueError(
                f"weights: {self.backbone} comes with its own weights; --weights goes with {', '.join(KERAS_BACKBONES)}"
            )
        if 0 < self.resolution < 32:
            raise ValueError(f"resolution: got {self.resolution}; ResNets need at least 32 pixels a side")
        refuse_contradictions(self)
        return self

    @property
    def declared_classes(self) -> tuple[str, ...]:
        """The names of ``class_names``; none where the classes are those found."""
        return tuple(name.strip() for name in self.class_names.split(",") if name.strip())

    def to_flat(self) -> dict[str, Value]:
        """Return every setting under its outside name: what TOML files and Flower's run config hold."""
        return self.model_dump(by_alias=True)

    def to_toml(self) -> str:
        """Return the config as a TOML document that ``read_toml`` reads back."""
        return tomli_w.dumps(self.to_flat())
