"""How and where a run runs."""

from typing import Literal

from fedtransfer.common.config.settings.option import SettingsGroup, option


class RunSettings(SettingsGroup):
    """How and where it runs."""

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
    baselines: bool = option(
        True, "Run", "Train the baselines of a simulation too: pooled, local only, majority class."
    )
    models: bool = option(
        True,
        "Run",
        "Write the best and the last head as Keras models from images to classes too. Otherwise `fedtransfer predict`"
        " makes one at its first call.",
    )
    out: str = option("", "Run", "Run folder (default: runs/DATA-DATE-TIME).")
    store: str = option("", "Run", "Folder of the feature store (default: ~/.cache/fedtransfer/features).")
    prepared: str = option(
        "", "", "Folder of `fedtransfer simulate --prepare`, whose sites Flower's own simulation works for."
    )
    resume: bool = option(False, "Run", "Go on with the run in the run folder.")
    log_json: str = option("", "Run", "File to which one JSON line an event is added (-: standard error).")
    callbacks: str = option("", "Run", "What else looks on: mlflow, or module:Class, separated by commas.")
