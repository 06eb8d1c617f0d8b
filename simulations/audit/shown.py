"""The main findings of an audit: a row a federation, for a person and as ``summary.csv``."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from fedtransfer.simulations.audit.tables import Finding, cells
from fedtransfer.simulations.csv_files import write_csv
from fedtransfer.simulations.report.audit_names import MEASURES, Value
from fedtransfer.simulations.report.blocks import epsilon as epsilon_words

Row = dict[str, float | str]

_BY_CHANCE = "_by_chance"  # ends the names of columns that hold the guess beside a measure
_BEST = "best_attack"  # on members, of all; its column has the name
# Column of summary.csv, attack and measure, and how a person is told: heading, and factor.
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

_GUESSES = {"counts_exact": "counts_by_chance", "cosine_of_one_image": "cosine_by_chance", "psnr": "psnr_of_class_mean"}


def summary(findings: Sequence[Finding]) -> list[Row]:
    """Return a row a federation: what it is, and each column of ``summary.csv``; NaN for what cannot be said."""
    federations: dict[tuple[int, str, str], list[Finding]] = {}
    for found in findings:
        federations.setdefault((found.images_per_class, found.strategy, found.protection), []).append(found)
    return [_row(mine) for mine in federations.values()]


def _row(findings: Sequence[Finding]) -> Row:
    first, found = findings[0], {(each.attack, each.measure): each for each in findings}
    row: Row = {
        "images_per_class": first.images_per_class or "", "strategy": first.strategy,
        "protection": first.protection or "as it ran", "epsilon": first.epsilon, _BEST: best_attack(findings),
    }  # fmt: skip
    for name, attack, measure, *_ in _COLUMNS:
        mine = found.get((str(row[_BEST]) if attack == _BEST else attack, measure))
        row[name] = math.nan if mine is None else mine.by_chance if name.endswith(_BY_CHANCE) else mine.value
    return row


def best_attack(findings: Sequence[Finding]) -> str:
    """Name the attack that finds most members of a federation at 1 % false alarms, or where none can be told has most area."""
    told: dict[str, dict[str, float]] = {}
    for found in findings:
        if found.measure in ("tpr@1%", "auc"):
            told.setdefault(found.attack, {})[found.measure] = -1.0 if math.isnan(found.value) else found.value
    return max(told, key=lambda attack: (told[attack].get("tpr@1%", -1.0), told[attack].get("auc", -1.0)), default="")


def write_summary_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows; what is not a number is left empty."""
    write_csv(path, list(rows[0]), ([_plain(value) for value in row.values()] for row in rows))


def shown(findings: Sequence[Finding]) -> Table:
    """Lay findings out: of one federation a row a measure; of several a row each, a section a strategy and number of images."""
    rows = summary(findings)
    return _of_one(findings) if len(rows) == 1 else _of_several(rows)


def _of_one(findings: Sequence[Finding]) -> Table:
    table = Table(
        title="What a server reads off a site's first update, and what the head that comes out gives away",
        caption="in parentheses 95 % intervals; of: so many images, sites, classes at sites, answers on non-members or guesses. A "
        "guess at features is the class's mean over test images: of a run they are the sites' own, which an outsider does not have",
        title_style="bold",
        caption_style="dim",
    )
    for name in ("attack", "measure"):
        table.add_column(name)
    for name in ("found", "a guess", "of"):
        table.add_column(name, justify="right")
    for found in findings:
        if not math.isnan(found.value):
            value = Value(cells(found))
            of = f"{found.count:,}" if found.count else ""
            table.add_row(found.attack, MEASURES[found.measure], value.text, value.guess, of)
    return table


def _of_several(rows: Sequence[Row]) -> Table:
    table = Table(
        title="What a server reads off a site's first update, and what the head that comes out gives away",
        caption="after a strategy, images a class; counts: classes at a site whose number of images is read off exactly; cosine: to the "
        "features of a class' only image; dB: PSNR of images rebuilt from such features. In parentheses guesses that need nothing "
        "from a site: one number for all counts, and the mean of public images of the class. ε >: at 95 % confidence. AUC, and "
        "members found, in %, at 1 % false alarms: by the attack that finds most, where guessing gives 0.5 and 1. —: too few to say",
        title_style="bold",
        caption_style="dim",
    )
    for name in ("strategy", "protection"):
        table.add_column(name, no_wrap=True)
    told = [column for column in _COLUMNS if column[3]]
    for *_, heading, _ in told:
        table.add_column(heading, justify="right")
    table.add_column("attack", no_wrap=True)
    for row, before in zip(rows, [rows[0], *rows], strict=False):
        if (row["images_per_class"], row["strategy"]) != (before["images_per_class"], before["strategy"]):
            table.add_section()
        named = [", ".join(str(row[name]) for name in ("strategy", "images_per_class") if row[name] != "")]
        claimed = "" if math.isnan(epsilon := float(row["epsilon"])) else f", ε = {epsilon_words(epsilon)}"
        named += [f"{row['protection']}{claimed}"]
        table.add_row(*named, *(_number(row, name, factor) for name, *_, factor in told), str(row[_BEST]))
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
