"""What an audit found: ``table.csv``, ``roc.csv``, ``summary.csv``, and a table for a person."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from fedtransfer.common.support.spreadsheet import write_csv
from fedtransfer.simulations.report.audit_names import Value
from fedtransfer.simulations.report.texts import epsilon

Row = dict[str, float | str]

_BY_CHANCE = "_by_chance"  # ends the names of columns with guesses
_BEST = "best_attack"  # on members, of all; its column has the name
# Column of summary.csv, attack, measure, and for a person the heading and a factor.
_COLUMNS = (
    ("accuracy", "utility", "accuracy", "acc., %", 100),
    ("counts_exact", "labels", "exact_share", "counts, %", 100),
    ("counts_by_chance", "labels", "exact_share", "", 100),
    ("cosine_of_one_image", "features", "cosine@1", "cosine", 1),
    ("cosine_by_chance", "features", "cosine@1", "", 1),
    ("psnr", "images", "psnr", "dB", 1),
    ("psnr_of_class_mean", "images", "psnr_of_class_mean", "", 1),
    ("epsilon_lower_bound", "one run", "epsilon_lower_bound", "ε >", 1),
    ("loss_threshold_auc", "loss threshold", "auc", "", 1),
    ("best_auc", _BEST, "auc", "AUC", 1),
    ("best_tpr_at_1_in_100", _BEST, "tpr@1%", "at 1 %", 100),
    ("best_tpr_at_1_in_1000", _BEST, "tpr@0.1%", "", 100),
)

_GUESSES = {
    "counts_exact": "counts_by_chance",
    "cosine_of_one_image": "cosine_by_chance",
    "psnr": "psnr_of_class_mean",
}


@dataclass(frozen=True)
class Finding:
    """One number that an attack found."""

    strategy: str
    protection: str
    epsilon: float  # what is claimed; NaN for nothing
    images_per_class: int  # 0 for a run
    attack: str
    measure: str
    value: float  # NaN if it is unknown
    low: float = math.nan  # of the 95 % interval; NaN for none
    high: float = math.nan
    by_chance: float = math.nan  # value of a guess that needs nothing from the sites; NaN for none
    count: int = 0  # of what it is measured on
    note: str = ""  # what else to know


class CurvePoint(NamedTuple):
    """A point of an attack's ROC curve: the rates of false and of true alarms."""

    strategy: str
    protection: str
    images_per_class: int
    attack: str
    fpr: float
    tpr: float


def write_tables(folder: Path, findings: Sequence[Finding], curves: Iterable[CurvePoint]) -> None:
    """Write ``table.csv``, ``roc.csv`` and ``summary.csv``; what is not a number is left empty."""
    write_csv(
        folder / "table.csv",
        [field.name for field in fields(Finding)],
        (_cells(f).values() for f in findings),
    )
    write_csv(folder / "roc.csv", CurvePoint._fields, (map(_cell, point) for point in curves))
    rows = summary(findings)
    write_csv(
        folder / "summary.csv", list(rows[0]), ([_cell(value, 4) for value in row.values()] for row in rows)
    )


def _cells(finding: Finding) -> dict[str, str]:
    return {name: str(_cell(value)) for name, value in asdict(finding).items()}


def _cell(value: Any, digits: int = 6) -> Any:
    """Return a value as a cell: a number in ``digits`` digits, NaN empty."""
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.{digits}g}"
    return value


def summary(findings: Sequence[Finding]) -> list[Row]:
    """Return a row a federation: what it is, and columns of ``summary.csv``; NaN if unknown."""
    federations: dict[tuple[int, str, str], list[Finding]] = {}
    for finding in findings:
        key = finding.images_per_class, finding.strategy, finding.protection
        federations.setdefault(key, []).append(finding)
    return [_row(group) for group in federations.values()]


def _row(findings: Sequence[Finding]) -> Row:
    first, by_name = findings[0], {(finding.attack, finding.measure): finding for finding in findings}
    row: Row = {
        "images_per_class": first.images_per_class or "", "strategy": first.strategy,
        "protection": first.protection or "as it ran", "epsilon": first.epsilon, _BEST: best_attack(findings),
    }  # fmt: skip
    for name, attack, measure, *_ in _COLUMNS:
        finding = by_name.get((str(row[_BEST]) if attack == _BEST else attack, measure))
        guess = name.endswith(_BY_CHANCE)
        row[name] = math.nan if finding is None else finding.by_chance if guess else finding.value
    return row


def best_attack(findings: Sequence[Finding]) -> str:
    """Return the attack with the highest TPR at 1 % FPR, or the highest AUC if there is no TPR."""
    ranks = ("tpr@1%", "auc")
    values = {
        (f.attack, f.measure): f.value for f in findings if f.measure in ranks and not math.isnan(f.value)
    }
    attacks = dict.fromkeys(f.attack for f in findings if f.measure in ranks)
    return max(attacks, key=lambda attack: [values.get((attack, rank), -1.0) for rank in ranks], default="")


def findings_table(findings: Sequence[Finding]) -> Table:
    """Lay out one federation, a row a measure; or several, a row each, by strategy and images."""
    rows = summary(findings)
    return _of_one(findings) if len(rows) == 1 else _of_several(rows)


def _empty_table(caption: str) -> Table:
    title = "What a server reads off a site's first update, and what the last head gives away"
    return Table(title=title, caption=caption, title_style="bold", caption_style="dim")


def _of_one(findings: Sequence[Finding]) -> Table:
    table = _empty_table(
        "in parentheses 95 % intervals; "
        "of: number of images, sites, classes at sites, answers on non-members or guesses. "
        "A guess at features is the class's mean over test images: "
        "for a run they are the sites' own, which an outsider does not have"
    )
    for name in ("attack", "measure"):
        table.add_column(name)
    for name in ("found", "a guess", "of"):
        table.add_column(name, justify="right")
    for finding in findings:
        if not math.isnan(finding.value):
            value, count = Value.from_row(_cells(finding)), f"{finding.count:,}" if finding.count else ""
            table.add_row(finding.attack, value.name, value.text, value.guess, count)
    return table


def _of_several(rows: Sequence[Row]) -> Table:
    table = _empty_table(
        "after a strategy, images a class; "
        "counts: classes at a site whose number of images is read off exactly; "
        "cosine: to the features of a class' only image; dB: PSNR of images rebuilt from such features. "
        "In parentheses guesses that need nothing from a site: "
        "one number for all counts, and the mean of public images of the class. ε >: at 95 % confidence. "
        "AUC, and members found, in %, at 1 % false alarms: "
        "by the attack that finds most, where guessing gives 0.5 and 1. —: too few to say"
    )
    for name in ("strategy", "protection"):
        table.add_column(name, no_wrap=True)
    columns = [(name, heading, factor) for name, _, _, heading, factor in _COLUMNS if heading]
    for _, heading, _ in columns:
        table.add_column(heading, justify="right")
    table.add_column("attack", no_wrap=True)
    for row, before in zip(rows, [rows[0], *rows], strict=False):
        if (row["images_per_class"], row["strategy"]) != (before["images_per_class"], before["strategy"]):
            table.add_section()
        name = ", ".join(str(row[key]) for key in ("strategy", "images_per_class") if row[key] != "")
        claim = "" if math.isnan(claimed := float(row["epsilon"])) else f", ε = {epsilon(claimed)}"
        numbers = (_number(row, column, factor) for column, _, factor in columns)
        table.add_row(name, f"{row['protection']}{claim}", *numbers, str(row[_BEST]))
    return table


def _number(row: Row, name: str, factor: int) -> str:
    """Return a number, with the guess in parentheses."""
    value, digits = float(row[name]), 1 if factor > 1 or name == "psnr" else 2
    if math.isnan(value):
        return "—"
    guess = float(row[_GUESSES[name]]) if name in _GUESSES else math.nan
    by_chance = "" if math.isnan(guess) else f" ({factor * guess:.{0 if factor > 1 else digits}f})"
    return f"{factor * value:.{digits}f}{by_chance}"
