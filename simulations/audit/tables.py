"""What an audit found, as files: ``table.csv``, ``roc.csv``, ``reconstructions.npz``, ``audit.json``."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.run import write_whole


@dataclass(frozen=True)
class Finding:
    """One number that an attack came to.

    Attributes:
        strategy, protection, images_per_class: of the federation; images a class is 0 where a run has what it has.
        epsilon: what is claimed; NaN for nothing.
        attack, measure: which attack, and what is measured of it.
        value: NaN where it cannot be said.
        low, high: 95 % interval; NaN for none.
        count: of what it is measured on.
        note: what else to know.
    """

    strategy: str
    protection: str
    epsilon: float
    images_per_class: int
    attack: str
    measure: str
    value: float
    low: float = math.nan
    high: float = math.nan
    count: int = 0
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """An attack's ROC curve: rates of false and of true alarms, (k,) each."""

    strategy: str
    protection: str
    images_per_class: int
    attack: str
    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]


@dataclass(frozen=True)
class Rebuilt:
    """Images, and what attacks made of them: (m, h, w, 3) uint8 each; ``by`` says under what, as "strategy, protection"."""

    labels: Sequence[str]
    originals: NDArray[np.uint8]
    class_means: NDArray[np.uint8]
    by: Mapping[str, NDArray[np.uint8]]


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write a row a finding; what is not a number is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Finding)])
        for finding in findings:
            writer.writerow([_cell(value) for value in asdict(finding).values()])


def write_curves(path: Path, curves: Iterable[Curve]) -> None:
    """Write a row a point."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Curve)])
        for curve in curves:
            named = curve.strategy, curve.protection, curve.images_per_class, curve.attack
            writer.writerows([*named, _cell(x), _cell(y)] for x, y in zip(curve.fpr, curve.tpr, strict=True))


def write_rebuilt(path: Path, rebuilt: Rebuilt) -> None:
    """Write the images as one archive."""
    np.savez_compressed(
        path, labels=np.array(rebuilt.labels, np.str_), originals=rebuilt.originals, class_means=rebuilt.class_means,
        names=np.array(list(rebuilt.by), np.str_), rebuilt=np.stack(list(rebuilt.by.values())),
    )  # fmt: skip


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write what else there is to know."""
    write_whole(path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
