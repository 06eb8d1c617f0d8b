"""Classes of images by a finished run's model, its scores on labelled images, and their display."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from fedtransfer.common.data.feature_table import feature_table, holds_features, row_of, tables_of
from fedtransfer.common.data.images import Image, Problem
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.ready_made import check_tables
from fedtransfer.common.head.metrics import Counts, confusion_matrix
from fedtransfer.common.head.model import Classifier
from fedtransfer.common.support.pictures import save_heat_map
from fedtransfer.common.support.processes import CORES
from fedtransfer.common.support.spreadsheet import SheetWriter
from fedtransfer.common.support.terminal import percent, progress_bar, table_console
from fedtransfer.common.support.text import counted, plain


def classify(model: Classifier, images: Sequence[Image]) -> Iterator[NDArray[np.float32] | Problem]:
    """Yield the class probabilities (C,) of each image in order, or why it cannot be read.

    Raises:
        UserError: ready-made features are of another backbone than the model's.
    """
    if model.backbone:
        check_tables(tables_of(image.path for image in images), model.backbone)

    def predict(image: Image) -> NDArray[np.float32] | Problem:
        try:
            return model.predict(model.read(image.read()))
        except (OSError, ValueError) as error:
            return Problem(image.path, str(error))

    with ThreadPoolExecutor(CORES) as pool:
        yield from pool.map(predict, images)


def images_at(paths: Sequence[Path]) -> list[Image]:
    """List the files, and in folders all files below them in name order, except hidden ones.

    A features file is a list of its rows.

    Raises:
        UserError: a features file is damaged.
    """
    images = []
    for path in paths:
        inside = sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
        for file in inside if path.is_dir() else [path]:
            rows = feature_table(str(file)).ids if holds_features(file) else []
            images += [Image(f"{file}#id={row}", "") for row in rows] or [Image(str(file), "")]
    return images


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on labelled images.

    ``summary`` has accuracy, macro scores, loss, and for each class precision, recall
    (sensitivity), specificity, F1 and AUROC.
    """

    summary: dict[str, Any]
    confusion: NDArray[np.int64]  # (C, C) images by true class (rows) and predicted class (columns)
    problems: tuple[Problem, ...]  # images that cannot be read


def evaluate_model(
    model: Classifier, images: Sequence[Image], progress: Callable[[int, int], None]
) -> Evaluation:
    """Score a model on images with labels among its classes. Classes without images score NaN."""
    number = {name: i for i, name in enumerate(model.classes)}
    rows, labels, problems = [], [], []
    for done, (image, result) in enumerate(zip(images, classify(model, images), strict=True), 1):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            rows.append(result)
            labels.append(number[image.label])
        progress(done, len(images))
    probabilities = np.array(rows, np.float32).reshape(-1, len(model.classes))
    truth = np.array(labels, np.int64)
    counts = Counts.of(probabilities, truth)
    by_class = {name: _class_scores(counts, probabilities, truth, i) for i, name in enumerate(model.classes)}
    macro = ("specificity", "auroc")
    means = {f"macro_{key}": _mean(scores[key] for scores in by_class.values()) for key in macro}
    summary = {
        "images": counts.total, "unreadable": len(problems), "accuracy": counts.accuracy,
        **counts.macro(), **means, "loss": counts.mean_loss, "classes": by_class,
    }  # fmt: skip
    return Evaluation(summary, confusion_matrix(probabilities, truth), tuple(problems))


def _class_scores(
    counts: Counts, probabilities: NDArray[np.float32], truth: NDArray[np.int64], i: int
) -> dict[str, float]:
    """Return the scores of one class against the rest."""
    from sklearn.metrics import roc_auc_score

    images, predicted, correct = (int(a[i]) for a in (counts.images, counts.predicted, counts.correct))
    rest, nan = counts.total - images, float("nan")
    recall = correct / images if images else nan
    return {
        "images": images,
        "precision": correct / predicted if predicted else (0.0 if images else nan),
        "recall": recall,
        "f1": 2 * correct / (images + predicted) if images else nan,
        "sensitivity": recall,
        "specificity": 1 - (predicted - correct) / rest if rest else nan,
        "auroc": float(roc_auc_score(truth == i, probabilities[:, i])) if images and rest else nan,
    }


def _mean(values: Iterator[float]) -> float:
    numbers = [value for value in values if value == value]  # without NaN
    return float(np.mean(numbers)) if numbers else float("nan")


def show_predictions(model: Classifier, paths: Sequence[Path], *, csv_output: bool, json_output: bool) -> int:
    """Print the class of each image at ``paths`` as a table, as CSV, or as one JSON object a line.

    Return the number of files that cannot be read; each is named on standard error.

    Raises:
        UserError: there is no file.
    """
    images = images_at(paths)
    if not images:
        raise UserError(f"{', '.join(map(str, paths))}: no file found there to classify")
    writer = SheetWriter(sys.stdout)
    rows = [row_of(image.path) for image in images]
    by_id = all(rows) and len({row[0] for row in rows if row}) == 1  # all of one features file
    if csv_output:
        writer.writerow(["id" if by_id else "path", "class", "probability", *model.classes])
    table = Table("id" if by_id else "image", "class", "probability", "next", box=box.SIMPLE)
    table.columns[0].overflow = "fold"
    unreadable = 0
    for image, row, result in zip(images, rows, classify(model, images), strict=True):
        name = row[1] if by_id and row else image.path
        if isinstance(result, Problem):
            unreadable += 1
            print(f"{result.path}: {result.reason}", file=sys.stderr)
            continue
        ranked = [(model.classes[i], float(result[i])) for i in result.argsort()[::-1]]
        best, share = ranked[0]
        if csv_output:
            writer.writerow([name, best, f"{share:.6f}", *(f"{p:.6f}" for p in result)])
        elif json_output:
            where = {"path": row[0], "id": row[1]} if row else {"path": image.path}
            answer = {**where, "class": best, "probability": share, "probabilities": dict(ranked)}
            print(json.dumps(answer, ensure_ascii=False))
        else:
            following = ", ".join(f"{name} {percent(p)}" for name, p in ranked[1:3])
            table.add_row(name, best, percent(share), following)
    if table.row_count:
        table_console().print(table)
    if unreadable:
        print(f"{unreadable} of {counted(len(images), 'file')} could not be read", file=sys.stderr)
    return unreadable


def show_evaluation(
    model: Classifier, images: Sequence[Image], split: str, problems: Sequence[Problem], picture: Path,
    console: Console, *, json_output: bool,
) -> None:  # fmt: skip
    """Score a model on the labelled images of a split; print the scores as a table or as JSON.

    ``problems`` are files that could not be listed as images; ``picture`` is the file of the
    confusion matrix. The ``console`` is for progress and remarks.
    """
    with progress_bar(console, "Images", split) as progress:
        result = evaluate_model(model, images, progress)
    for problem in (*problems, *result.problems):
        text = f"left out {problem.path}: {problem.reason}"
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    title, axes = "Confusion matrix (images)", ("predicted class", "true class")
    save_heat_map(picture, result.confusion, model.classes, model.classes, title, axes)
    if json_output:
        print(json.dumps(plain({"split": split, **result.summary}), indent=2, ensure_ascii=False))
    else:
        table_console().print(_evaluation_table(result.summary, split))
    console.print(f"confusion matrix: {picture}", highlight=False, soft_wrap=True)


def _evaluation_table(summary: dict[str, Any], split: str) -> Table:
    scores = ("precision", "recall", "f1", "specificity", "auroc")
    accuracy = f"Accuracy {percent(summary['accuracy'])} on {summary['images']} images ({split})"
    title = f"{accuracy}; loss {summary['loss']:.3f}"
    caption = "recall of a class is its sensitivity"
    table = Table(title=title, title_style="bold", caption=caption, box=box.SIMPLE)
    for name in ("class", "images", "precision", "recall", "F1", "specificity", "AUROC"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, row in summary["classes"].items():
        shares = [percent(row[score]) for score in scores[:-1]]
        table.add_row(name, str(row["images"]), *shares, _decimal(row["auroc"]))
    table.add_section()
    macro = [summary[f"macro_{score}"] for score in scores]
    table.add_row("mean over classes", "", *map(percent, macro[:-1]), _decimal(macro[-1]))
    return table


def _decimal(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"
