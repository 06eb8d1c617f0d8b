"""SettingsGroup of the head, and of training at a site."""

from typing import Literal

from fedtransfer.common.config.settings.option import SettingsGroup, option

Optimizer = Literal[
    "sgd", "momentum", "nesterov", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta", "rmsprop", "adafactor",
    "lion", "ftrl",
]  # fmt: skip


class HeadSettings(SettingsGroup):
    """What is trained."""

    trainable: str = option(
        "head",
        "Head",
        "What is trained and sent: the head, or all convolutions from a stage or block of the backbone on, such as"
        " conv5 or conv5_block2. Features are stored where the network is cut.",
        min_length=1,
    )
    unfreeze_at: str = option(
        "",
        "Head",
        "Gradual unfreezing: ROUND:LAYER, separated by commas, as in 20:conv5_block2,40:conv5; from each round on so"
        " much more is trained.",
    )
    hidden_units: int = option(0, "Head", "Units of one hidden ReLU layer (0: a single softmax layer).", ge=0)
    dropout: float = option(0.0, "Head", "Dropout rate on the head's input.", ge=0, lt=1)
    l2: float = option(0.0, "Head", "L2 penalty on the head's weights.", ge=0)


class TrainingSettings(SettingsGroup):
    """How a site trains it."""

    local_epochs: int = option(1, "Training at a site", "Passes over a site's images each round.", ge=1)
    batch_size: int = option(32, "Training at a site", "Images a step.", ge=1)
    learning_rate: float = option(
        4.0, "Training at a site", "Rate of the site's optimizer (Adam and its kin want about 0.001).", gt=0
    )
    backbone_rate: float = option(
        0.01,
        "Training at a site",
        "Share of that rate at which what is trained of the backbone moves (with --trainable or --unfreeze-at).",
        gt=0,
        le=1,
    )
    schedule: Literal["constant", "cosine"] = option(
        "constant", "Training at a site", "How the rate falls over the rounds; cosine: to a hundredth in the last."
    )
    optimizer: Optimizer = option("sgd", "Training at a site", "A Keras optimizer; its state is reset in each round.")
    weight_decay: float = option(
        0.0, "Training at a site", "Decoupled weight decay: each step shrinks the kernels by rate x this.", ge=0
    )
    class_balance: float = option(
        0.0,
        "Training at a site",
        "Weigh classes by the inverse of their effective number of images in the federation (Cui et al. 2019, beta:"
        " 0 is off, towards 1 by inverse frequency; 0.99 to 0.9999 are usual).",
        ge=0,
        lt=1,
    )
    patience: int = option(
        0,
        "Training at a site",
        "Stop a site's local epochs when its validation loss has not improved for this many, and take its"
        " best epoch (0: run all of them).",
        ge=0,
    )
    personal_epochs: int = option(
        0,
        "Training at a site",
        "Number of epochs for which each site fine-tunes the final global head to a personal one. It also mixes the global"
        " head with one of its own, by its validation images (0: no personal heads; reptile and perfedavg: --local-epochs).",
        ge=0,
    )
