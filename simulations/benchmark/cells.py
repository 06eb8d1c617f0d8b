"""The work of a process of ``fedtransfer benchmark methods``: features, baselines and runs, one after another."""

import json
import math
import time
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console
from sklearn.linear_model import Ridge

from client.site import prepare_site
from common.backbone import configured_backbone
from common.compute import keras
from common.config import RunConfig
from common.preparation import extract_all
from common.sources import natural_order
from server.callbacks.tables import read_history
from server.run import read_summary, settings_of, write_whole
from server.strategies.one_shot import GRID
from simulations.baselines import Split, run_baselines
from simulations.benchmark.plans import Cell, same_run
from simulations.benchmark.tables import REACHED, Row
from simulations.display import Display
from simulations.federation import simulate, sites_of


@dataclass(frozen=True)
class Pooled:
    """Accuracy on the common test set of what all data in one place give: the heads, and the majority class."""

    softmax: float
    ridge: float
    ncm: float
    majority: float


def extract_features(config: RunConfig) -> int:
    """Bring the features of a setting's images into the store; return how many were extracted."""
    images = [image for images in sites_of(config)[0].values() for image in images]
    extraction, _ = extract_all(configured_backbone(config), images, config)
    return extraction.extracted


def measure_baselines(cell: Cell) -> Pooled:
    """Score the baselines of a setting and seed, or read ``baselines.json`` where they have been."""
    path, settings = Path(cell.config.out) / "baselines.json", cell.config.to_toml()
    if path.exists() and (kept := json.loads(path.read_text("utf-8")))["settings"] == settings:
        return Pooled(**kept["accuracy"])
    everything = [image for images in sites_of(cell.config)[0].values() for image in images]
    site = prepare_site(everything, cell.config)
    classes = natural_order(site.images_by_class())
    told = run_baselines(cell.config, {"pooled": site}, classes, None, lambda done, total: None, local_sites=0)
    splits = [site.data(split, classes) for split in ("train", "validation", "test")]
    pooled = Pooled(told.pooled.common, _ridge(*splits), _nearest_mean(*splits), told.majority.common)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"settings": settings, "accuracy": asdict(pooled)}, indent=2) + "\n")
    return pooled


def _ridge(train: Split, validation: Split, test: Split) -> float:
    """Regress one-hot labels on [x; 1]; of ``GRID`` take what is best on the validation images."""
    z = [np.hstack([x, np.ones((len(x), 1), x.dtype)]).astype(np.float64) for x, _ in (train, validation, test)]
    targets = np.eye(train[1].max() + 1)[train[1]]

    def scored(ridge: float) -> tuple[float, float]:
        fitted = Ridge(alpha=ridge, fit_intercept=False).fit(z[0], targets)
        validated, tested = (
            fitted.predict(x).argmax(1) == y for x, (_, y) in zip(z[1:], (validation, test), strict=True)
        )
        return float(validated.mean()), float(tested.mean())

    return max((scored(ridge) for ridge in GRID), key=lambda score: score[0])[1]


def _nearest_mean(train: Split, validation: Split, test: Split) -> float:
    """Give each image to the class whose mean is nearest in angle."""
    x, y = train
    means = np.stack([x[y == c].sum(0) for c in range(y.max() + 1)])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return float(np.mean((test[0] @ means.T).argmax(1) == test[1]))


def run_cell(cell: Cell, pooled: float) -> Row:
    """Make a run, or the rest of one, or read the one there is; return its row.

    Args:
        cell: which.
        pooled: accuracy of the pooled softmax head.

    Raises:
        UserError: the run cannot be made.
    """
    folder, began = Path(cell.config.out), time.monotonic()
    begun = (folder / "config.toml").is_file() and same_run(settings_of(folder), cell.config)
    finished = begun and (folder / "summary.json").is_file()
    if not finished:
        simulate(cell.config.model_copy(update={"resume": begun}), Display(Console(file=StringIO())), force=True)
        # What a run leaves in the process is of no use to the next: sites with their features, Keras' graphs.
        keras.backend.clear_session(free_memory=False)
    return _row(cell, folder, pooled, 0.0 if finished else time.monotonic() - began)


def _row(cell: Cell, folder: Path, pooled: float, seconds: float) -> Row:
    """Read a run's row. A round's scores are those of the head that enters it, so the rounds before it made that head."""
    history, summary = read_history(folder), read_summary(folder)
    at = next(
        (i for i, row in enumerate(history) if row["accuracy"] and float(row["accuracy"]) >= REACHED * pooled),
        None,
    )  # fmt: skip
    before = history[:at] if at is not None else []
    return Row(
        cell.setting,
        cell.method,
        cell.seed,
        summary.get("measured_outside_the_federation", summary)["accuracy"],
        math.nan if at is None else sum(row["phase"] in ("sums", "train") and row["status"] == "ok" for row in before),
        math.nan if at is None else sum(_bytes(row) for row in before),
        round(sum(float(row["seconds"] or "nan") for row in history), 2),
        round(seconds, 2),
    )


def _bytes(row: dict[str, str]) -> float:
    return float(row["bytes_down_per_site"]) + float(row["bytes_up_per_site"])
