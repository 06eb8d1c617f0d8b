"""A finished run, for Python programs."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.report.reading import Run as Record
from fedtransfer.simulations.report.reading import read_folder, real
from fedtransfer.simulations.runs import balanced_accuracy, list_runs
from fedtransfer.table import Table, run_page, table_of, table_of_rows

StrPath = str | PathLike[str]
Embed = Callable[[NDArray[np.uint8]], Any]  # images (n, h, w, 3) uint8 → features (n, d)


@dataclass(frozen=True)
class Baselines:
    """Accuracies on the common test set of heads trained in other ways on the same features."""

    pooled: float  # all data in one place
    local_mean: float  # each site alone; mean over the heads
    local_worst: float  # each site alone; worst of the heads
    majority: float  # always the most frequent class


class Run:
    """A finished run, in run folder ``folder``; ``ft.simulate`` and ``ft.load_run`` make one."""

    def __init__(self, folder: StrPath, embed: Embed | None = None) -> None:
        record = read_folder(Path(folder))
        if not isinstance(record, Record):
            raise UserError(f"{folder}: expected the folder of a run, not of a benchmark or an audit")
        self.folder = record.folder
        self._record, self._embed = record, embed

    def __repr__(self) -> str:
        return f"<Run {self.folder.name}: {self.config.strategy}, accuracy {self.accuracy:.3f}>"

    def _repr_html_(self) -> str:
        from fedtransfer.common.support.terminal import percent

        facts = {"accuracy": percent(self.accuracy), "balanced accuracy": percent(self.balanced_accuracy)}
        if scores := self.baselines:
            facts |= {"pooled": percent(scores.pooled), "local only, mean": percent(scores.local_mean)}
        if isfinite(self.epsilon):
            facts["epsilon"] = f"{self.epsilon:.3g}"
        facts |= {name: f"{self.summary[name]:,}" for name in ("sites", "rounds")}
        return run_page(f"{self.config.strategy} on {Path(self.config.data).stem}", facts, self.history)

    @property
    def config(self) -> RunConfig:
        """All settings."""
        return self._record.config

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        return dict(self._record.summary)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the head's columns."""
        return tuple(self._record.summary["classes"])

    @property
    def accuracy(self) -> float:
        """Share of the test images of all sites that the head gets right, 0 to 1; NaN if unknown.

        If sites do not report scores (differential privacy, masks), the simulation measures it.
        """
        return self._record.accuracy

    @property
    def balanced_accuracy(self) -> float:
        """Mean over classes of the share of their test images that the head gets right, 0 to 1."""
        return balanced_accuracy(self._record)

    @property
    def epsilon(self) -> float:
        """ε spent; infinite without differential privacy."""
        return self._record.epsilon

    @property
    def baselines(self) -> Baselines | None:
        """Scores of heads trained in other ways; None for a run with ``baselines=False``."""
        scores = self._record.summary.get("baselines")
        return Baselines(**{name: real(value) for name, value in scores.items()}) if scores else None

    @property
    def history(self) -> Table:
        """A row a round, as in ``history.csv``: scores of the entering head, bytes, seconds."""
        return table_of_rows(self._record.history)

    @property
    def sites(self) -> Table:
        """A row for each site: name, number of images for training and validation, and accuracies.

        The accuracies are on the site's test images: ``accuracy`` of the run's head, ``local`` of
        the head that the site trained alone (NaN without one).
        """
        accuracy = self._record.measured["site_accuracy"]
        alone = self._record.summary.get("baselines_on_own_test_images", {}).get("local", {})
        images, _ = self._record.images
        return table_of({
            "site": list(accuracy), "images": [sum(images.get(site, {}).values()) for site in accuracy],
            "accuracy": [real(value) for value in accuracy.values()],
            "local": [real(alone.get(site)) for site in accuracy],
        })  # fmt: skip

    @cached_property
    def head(self) -> tuple[NDArray[np.float32], ...]:
        """The head's arrays; without a hidden layer, kernel (d, C) and bias (C,)."""
        from fedtransfer.common.head.head import load_head

        return load_head(self.folder / "head.npz")[0]

    @property
    def model(self) -> Any:
        """The Keras model: images (n, h, w, 3), 0 to 255, or features (n, d) → (n, C).

        Raises:
            UserError: the run has a ``model.onnx`` instead, which Keras cannot load.
        """
        from fedtransfer.common.config.config import read_config
        from fedtransfer.common.head.model import keras_model, model_of_head

        config = read_config(self.folder / "config.toml")
        path = model_of_head(self.folder / "head.npz", config)
        if path.suffix == ".onnx":
            raise UserError(
                f"{path}: this run's model is ONNX, not Keras; use run.predict, or load the file by "
                "onnxruntime.InferenceSession"
            )
        return keras_model(path)

    @cached_property
    def _classifier(self) -> Any:
        from fedtransfer.common.head.model import load_model

        return load_model(self.folder)

    def predict(self, images: StrPath | NDArray[Any] | Sequence[Any]) -> NDArray[np.float32]:
        """Return class probabilities (n, C), in the order of ``classes``.

        Args:
            images: (n, h, w, 3) uint8 or real numbers from 0 to 1; or a list of such images (h, w,
                3), of any sizes; or an image file or a folder of them. For a run on ready-made
                features, features (n, d); images too, if a backbone object of this process made the
                features.

        Raises:
            UserError: an image cannot be read, or is not an image.
        """
        from fedtransfer.client.inference import images_at
        from fedtransfer.common.support.processes import CORES
        from fedtransfer.simulations.data.archive import embed_images
        from fedtransfer.simulations.data.examples import read_values

        model = self._classifier
        values: list[Any] = []
        try:
            if isinstance(images, str | PathLike):
                values = [image.read() for image in images_at([Path(images)])]
            elif len(images):
                values = read_values(images, "predict")
            if model.width and self._embed and values and np.ndim(values[0]) != 1:
                values = list(embed_images(self._embed, values))
            with ThreadPoolExecutor(CORES) as pool:
                rows = list(pool.map(lambda value: model.predict(model.read(value)), values))
        except (OSError, ValueError) as error:
            raise UserError(f"predict: {error}") from None
        return np.array(rows, np.float32).reshape(-1, len(self.classes))

    def evaluate(self, data: Any, split: str = "") -> dict[str, Any]:
        """Score the model on labelled data.

        Args:
            data: anything that ``ft.simulate`` takes. The run's own data are divided as in the run.
            split: ``train``, ``validation``, ``test`` or ``all``, for data by name or path; "" for
                test if there is one.

        Returns:
            Accuracy, macro scores (``macro_recall`` is the balanced accuracy), loss, and scores by
            class.

        Raises:
            UserError: the data cannot be read, or have a class that the model does not know.
        """
        from fedtransfer.client.inference import evaluate_model
        from fedtransfer.simulations.data.archive import archive_data
        from fedtransfer.simulations.scoring.evaluation import choose_images

        files = [str(data)]
        if not isinstance(data, str | PathLike):
            archive, split = archive_data(data, self._embed), "all"
            parts = sorted(archive.path.glob("[!.]*")) if archive.natural else [archive.path]
            files = [str(part) for part in parts]
        chosen = (choose_images(self.folder, file, split, self.classes)[0] for file in files)
        images = [image for images in chosen for image in images]
        return evaluate_model(self._classifier, images, lambda done, total: None).summary

    def report(self) -> Path:
        """Write ``report.html``, a self-contained page, in the run folder; return its path."""
        from fedtransfer.simulations.report.page import write_report

        page = self.folder / "report.html"
        write_report([self.folder], page)
        return page


def load_run(folder: StrPath) -> Run:
    """Load a finished run from its folder.

    Raises:
        UserError: the folder has no run, or the run is not finished.
    """
    return Run(folder)


def runs(folder: StrPath = "runs") -> Table:
    """List the runs in a folder and below, the newest last; ``ft.load_run`` loads one.

    Returns:
        A row for each run: folder, data, strategy, rounds, sites, accuracy, balanced accuracy,
        bytes received and sent by a site, ε, the time (ISO 8601, UTC), and whether it is finished.

    Raises:
        UserError: there is no such folder.
    """
    rows = [vars(row) for row in list_runs(Path(folder))]
    if not rows:
        first = str(Path(folder) / "first")
        raise UserError(f"{folder}: no run in it; make one with ft.simulate(out={first!r})")
    return table_of({name: [row[name] for row in rows] for name in rows[0]})
