"""The output of ``predict`` and ``evaluate``, for a simulated run and for a site's result alike."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fedtransfer.client.inference import classify, evaluate_model, images_at, plot_confusion
from fedtransfer.common.data.images import Image, Problem
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.model import Classifier
from fedtransfer.common.support.terminal import percent, progress_bar, table_console
from fedtransfer.common.support.text import counted, plain


def show_predictions(model: Classifier, paths: Sequence[Path], *, csv_output: bool, json_output: bool) -> int:
    """Print the class of each image at ``paths`` as a table, as CSV, or as one JSON object per line.

    Returns:
        The number of files that cannot be read; each is named on standard error.

    Raises:
        UserError: there is no file.
    """
    images = images_at(paths)
    if not images:
        raise UserError(f"{', '.join(map(str, paths))}: no file found there to classify")
    writer = csv.writer(sys.stdout)
    if csv_output:
        writer.writerow(["path", "class", "probability", *model.classes])
    table = Table("image", "class", "probability", "next", box=box.SIMPLE)
    table.columns[0].overflow = "fold"
    unreadable = 0
    for image, result in zip(images, classify(model, images), strict=True):
        if isinstance(result, Problem):
            unreadable += 1
            print(f"{result.path}: {result.reason}", file=sys.stderr)
            continue
        ranked = [(model.classes[i], float(result[i])) for i in result.argsort()[::-1]]
        (best, share), runners_up = ranked[0], ranked[1:3]
        if csv_output:
            writer.writerow([image.path, best, f"{share:.6f}", *(f"{p:.6f}" for p in result)])
        elif json_output:
            answer = {"path": image.path, "class": best, "probability": share, "probabilities": dict(ranked)}
            print(json.dumps(answer, ensure_ascii=False))
        else:
            table.add_row(image.path, best, percent(share), ", ".join(f"{name} {percent(p)}" for name, p in runners_up))
    if table.row_count:
        table_console().print(table)
    if unreadable:
        print(f"{unreadable} of {counted(len(images), 'file')} could not be read", file=sys.stderr)
    return unreadable


def show_evaluation(
    model: Classifier,
    images: Sequence[Image],
    split: str,
    problems: Sequence[Problem],
    picture: Path,
    console: Console,
    *,
    json_output: bool,
) -> None:
    """Score a model on labelled images; print the scores and draw the confusion matrix.

    Args:
        model: the model to score.
        images: labelled images.
        split: name of their split.
        problems: files that could not be listed as images.
        picture: file of the confusion matrix.
        console: for progress and remarks.
        json_output: print JSON instead of a table.
    """
    with progress_bar(console, "Images", split) as progress:
        result = evaluate_model(model, images, progress)
    for problem in (*problems, *result.problems):
        console.print(f"left out {problem.path}: {problem.reason}", highlight=False, soft_wrap=True, markup=False)
    plot_confusion(result.confusion, model.classes, picture)
    if json_output:
        print(json.dumps(plain({"split": split, **result.summary}), indent=2, ensure_ascii=False))
    else:
        table_console().print(_evaluation_table(result.summary, split))
    console.print(f"confusion matrix: {picture}", highlight=False, soft_wrap=True)


def _evaluation_table(summary: dict[str, Any], split: str) -> Table:
    scores = ("precision", "recall", "f1", "specificity", "auroc")
    title = (
        f"Accuracy {percent(summary['accuracy'])} on {summary['images']} images ({split}); loss {summary['loss']:.3f}"
    )
    table = Table(title=title, title_style="bold", caption="recall of a class is its sensitivity", box=box.SIMPLE)
    for name in ("class", "images", "precision", "recall", "F1", "specificity", "AUROC"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, row in summary["classes"].items():
        table.add_row(name, str(row["images"]), *(percent(row[score]) for score in scores[:-1]), _decimal(row["auroc"]))
    table.add_section()
    macro = [summary[f"macro_{score}"] for score in scores]
    table.add_row("mean over classes", "", *map(percent, macro[:-1]), _decimal(macro[-1]))
    return table


def _decimal(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"
