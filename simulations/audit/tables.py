"""What an audit found, as files: ``table.csv`` and ``roc.csv``."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.simulations.csv_files import write_csv


@dataclass(frozen=True)
class Finding:
    """One number that an attack found.

    Attributes:
        strategy, protection, images_per_class: of the federation; images a class is 0 for a run.
        epsilon: what is claimed; NaN for nothing.
        attack, measure: which attack, and what is measured of it.
        value: NaN if it is unknown.
        low, high: 95 % interval; NaN for none.
        by_chance: the value of a guess that needs nothing from the federation's sites; NaN if it is missing.
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
    by_chance: float = math.nan
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


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write a row a finding; what is not a number is left empty."""
    write_csv(path, [field.name for field in fields(Finding)], (cells(finding).values() for finding in findings))


def cells(finding: Finding) -> dict[str, str]:
    """Return a finding as a row of ``table.csv``."""
    return {name: str(cell(value)) for name, value in asdict(finding).items()}


def write_curves(path: Path, curves: Iterable[Curve]) -> None:
    """Write a row a point."""
    rows = (
        [curve.strategy, curve.protection, curve.images_per_class, curve.attack, cell(x), cell(y)]
        for curve in curves
        for x, y in zip(curve.fpr, curve.tpr, strict=True)
    )
    write_csv(path, [field.name for field in fields(Curve)], rows)


def cell(value: Any, digits: int = 6) -> Any:
    """Return a value as a cell: a number in ``digits`` digits, NaN empty."""
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.{digits}g}"
    return value
