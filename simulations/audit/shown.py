"""The main findings of an audit: a row a federation, for a person and as ``summary.csv``."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from simulations.audit.tables import Finding
from simulations.csv_files import write_csv
from simulations.report.blocks import epsilon as epsilon_words

Row = dict[str, float | str]

_BY_CHANCE = "_by_chance"  # ends the names of columns that hold the guess beside a measure
# Column of summary.csv, attack and measure, and how a person is told: heading, and factor.
_COLUMNS = (
    ("accuracy", "utility", "accuracy", "acc., %", 100),
    ("counts_exact", "labels", "exact_share", "counts, %", 100),
    ("counts_by_chance", "labels", "exact_share", "", 100),
    ("cosine_of_one_image", "features", "cosine@1", "cosine", 1),
    ("cosine_by_chance", "features", "cosine@1", "", 1),
    ("psnr", "images", "psnr", "dB", 1),
    ("psnr_of_class_mean", "images", "psnr_of_class_mean", "", 1),
    ("loss_threshold_auc", "loss threshold", "auc", "", 1),
    ("lira_auc", "LiRA online", "auc", "AUC", 1),
    ("lira_tpr_at_1_in_100", "LiRA online", "tpr@1%", "at 1 %", 100),
    ("lira_tpr_at_1_in_1000", "LiRA online", "tpr@0.1%", "0.1 %", 100),
    ("epsilon_lower_bound", "one run", "epsilon_lower_bound", "ε >", 1),
)

_GUESSES = {"counts_exact": "counts_by_chance", "cosine_of_one_image": "cosine_by_chance", "psnr": "psnr_of_class_mean"}


def summary(findings: Sequence[Finding]) -> list[Row]:
    """Return a row a federation: what it is, and each column of ``summary.csv``; NaN for what cannot be said."""
    rows: dict[tuple[int, str, str], Row] = {}
    for found in findings:
        key = found.images_per_class, found.strategy, found.protection
        if key not in rows:
            rows[key] = {
                "images_per_class": found.images_per_class or "", "strategy": found.strategy,
                "protection": found.protection or "as it ran", "epsilon": found.epsilon, **{name: math.nan for name, *_ in _COLUMNS},
            }  # fmt: skip
        for name, *which in ((name, attack, measure) for name, attack, measure, *_ in _COLUMNS):
            if which == [found.attack, found.measure]:
                rows[key][name] = found.by_chance if name.endswith(_BY_CHANCE) else found.value
    return list(rows.values())


def write_summary_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows; what is not a number is left empty."""
    write_csv(path, list(rows[0]), ([_plain(value) for value in row.values()] for row in rows))


def shown(rows: Sequence[Row]) -> Table:
    """Lay the rows out, a section a strategy and number of images."""
    table = Table(
        title="What a server reads off a site's first update, and what the head that comes out gives away",
        caption="counts: classes at a site whose number of images is read off exactly; cosine: to the features of a class' only image; dB: PSNR "
        "of images rebuilt from such features. In parentheses guesses that need nothing from a site: one number for all counts, and "
        "the mean of public images of the class. AUC and true positive rates, in %, at false ones of "
        "1 and 0.1 %: membership by LiRA, where guessing gives 0.5, 1 and 0.1. ε >: at 95 % confidence. —: too few to say",
        title_style="bold",
        caption_style="dim",
    )
    for name in ("a class", "strategy", "protection", "ε"):
        table.add_column(name, no_wrap=True)
    told = [column for column in _COLUMNS if column[3]]
    for *_, heading, _ in told:
        table.add_column(heading, justify="right")
    for row, before in zip(rows, [rows[0], *rows], strict=False):
        if (row["images_per_class"], row["strategy"]) != (before["images_per_class"], before["strategy"]):
            table.add_section()
        cells = [_number(row, name, factor) for name, *_, factor in told]
        named = [str(row[name]) for name in ("images_per_class", "strategy", "protection")]
        table.add_row(*named, "" if math.isnan(epsilon := float(row["epsilon"])) else epsilon_words(epsilon), *cells)
    return table


def _number(row: Row, name: str, factor: int) -> str:
    """Show a number, and in parentheses the guess beside it."""
    value, digits = float(row[name]), 1 if factor > 1 or name == "psnr" else 2
    if math.isnan(value):
        return "—"
    guess = float(row[_GUESSES[name]]) if name in _GUESSES else math.nan
    beside = "" if math.isnan(guess) else f" ({factor * guess:.{0 if factor > 1 else digits}f})"
    return f"{factor * value:.{digits}f}{beside}"


def _plain(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.4g}"
