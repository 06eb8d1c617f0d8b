"""Classification of images with a finished run's model, and its scores on labelled images."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.compute import CORES
from fedtransfer.common.data.images import Image, Problem
from fedtransfer.common.head.metrics import Counts, confusion_matrix
from fedtransfer.common.head.model import Classifier
from fedtransfer.common.support.pictures import save_heat_map


def classify(model: Classifier, images: Sequence[Image]) -> Iterator[NDArray[np.float32] | Problem]:
    """Yield the class probabilities (C,) of each image in order, or why it cannot be read."""

    def predict(image: Image) -> NDArray[np.float32] | Problem:
        try:
            return model.predict(model.read(image.read()))
        except (OSError, ValueError) as error:
            return Problem(image.path, str(error))

    with ThreadPoolExecutor(CORES) as pool:
        yield from pool.map(predict, images)


def images_at(paths: Sequence[Path]) -> list[Image]:
    """List the files, and in folders all files below them in name order, except hidden ones."""
    images = []
    for path in paths:
        files = (
            sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
            if path.is_dir()
            else [path]
        )
        images += [Image(str(file), "") for file in files]
    return images


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on labelled images.

    Attributes:
        summary: accuracy, macro scores, loss, and for each class precision, recall (sensitivity),
            specificity, F1 and AUROC.
        confusion: (C, C) images by true class (rows) and predicted class (columns).
        problems: images that cannot be read.
    """

    summary: dict[str, Any]
    confusion: NDArray[np.int64]
    problems: tuple[Problem, ...]


def evaluate_model(model: Classifier, images: Sequence[Image], progress: Callable[[int, int], None]) -> Evaluation:
    """Score a model on images whose labels are among its classes. Classes without images score NaN."""
    number = {name: i for i, name in enumerate(model.classes)}
    rows, labels, problems = [], [], []
    for done, (image, result) in enumerate(zip(images, classify(model, images), strict=True), 1):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            rows.append(result)
            labels.append(number[image.label])
        progress(done, len(images))
    probabilities, truth = np.array(rows, np.float32).reshape(-1, len(model.classes)), np.array(labels, np.int64)
    counts = Counts.of(probabilities, truth)
    by_class = {name: _class_scores(counts, probabilities, truth, i) for i, name in enumerate(model.classes)}
    means = {f"macro_{key}": _mean(scores[key] for scores in by_class.values()) for key in ("specificity", "auroc")}
    summary = {
        "images": counts.total,
        "unreadable": len(problems),
        "accuracy": counts.accuracy,
        **counts.macro(),
        **means,
        "loss": counts.mean_loss,
        "classes": by_class,
    }
    return Evaluation(summary, confusion_matrix(probabilities, truth), tuple(problems))


def _class_scores(
    counts: Counts, probabilities: NDArray[np.float32], truth: NDArray[np.int64], i: int
) -> dict[str, float]:
    """Return the scores of one class against the rest."""
    from sklearn.metrics import roc_auc_score

    images, predicted, correct = (int(a[i]) for a in (counts.images, counts.predicted, counts.correct))
    rest = counts.total - images
    nan = float("nan")
    return {
        "images": images,
        "precision": correct / predicted if predicted else (0.0 if images else nan),
        "recall": correct / images if images else nan,
        "f1": 2 * correct / (images + predicted) if images else nan,
        "sensitivity": correct / images if images else nan,
        "specificity": 1 - (predicted - correct) / rest if rest else nan,
        "auroc": float(roc_auc_score(truth == i, probabilities[:, i])) if images and rest else nan,
    }


def _mean(values: Iterator[float]) -> float:
    numbers = [value for value in values if value == value]  # without NaN
    return float(np.mean(numbers)) if numbers else float("nan")


def plot_confusion(confusion: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix (C, C): true classes in rows, predicted classes in columns."""
    save_heat_map(path, confusion, classes, classes, "Confusion matrix (images)", ("predicted class", "true class"))
