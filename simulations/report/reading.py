"""From folders to facts: the files of a run, a benchmark or an audit."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig, read_config
from fedtransfer.common.errors import UserError

Row = Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A finished run: its settings, ``summary.json``, and ``history.csv``."""

    folder: Path
    config: RunConfig
    summary: Mapping[str, Any]
    history: Sequence[Row]
    name: str = ""

    @property
    def measured(self) -> Mapping[str, Any]:
        """The scores of its head, from outside the simulation if the sites send none."""
        return dict(self.summary.get("measured_outside_the_federation") or self.summary)

    @property
    def accuracy(self) -> float:
        """Accuracy of its head; NaN if unknown."""
        return real(self.measured.get("accuracy"))

    @property
    def scored(self) -> bool:
        """Whether its accuracy is known."""
        return not math.isnan(self.accuracy)

    def curve(self, column: str) -> tuple[list[float], list[float]]:
        """Return rounds of training, and a column of the history after them that is not empty."""
        rows = [row for row in self.history if row[column] and of_training(row)]
        return [int(row["round"]) - 1.0 for row in rows], [real(row[column]) for row in rows]

    def traffic(self) -> tuple[list[float], list[float]]:
        """Return bytes that a site received and sent, and accuracy of the head that they made."""
        spent, x, y = 0.0, [], []
        for row in self.history:
            if spent and row["accuracy"] and of_training(row):
                x.append(spent)
                y.append(real(row["accuracy"]))
            spent += _bytes(row, "down") + _bytes(row, "up")
        return x, y

    @property
    def bytes(self) -> tuple[float, float]:
        """Bytes that a site received and sent for the head, failed attempts included."""
        down, up = (sum(_bytes(row, way) for row in self.history) for way in ("down", "up"))
        return down, up

    @property
    def privacy(self) -> Mapping[str, Any] | None:
        """Its promise of privacy, None without one."""
        return self.summary.get("privacy")

    @property
    def epsilon(self) -> float:
        """ε spent, infinite without a promise."""
        promise = self.privacy
        return math.inf if promise is None or promise["epsilon"] is None else float(promise["epsilon"])

    @cached_property
    def images(self) -> tuple[Mapping[str, Mapping[str, int]], bool]:
        """Images of each site by class, and whether test images are among them; {} if unknown."""
        counts: dict[str, Counter[str]] = {}
        with_test = False
        for file in sorted(self.folder.glob("sites/*/images.csv")):
            rows = [row for row in rows_of(file) if row["split"] != "test"]
            with_test |= any(not row["split"] for row in rows)
            counts[file.parent.name] = Counter(row["label"] for row in rows)
        return counts, with_test


@dataclass(frozen=True)
class Benchmark:
    """A plan's results: a row a setting and method, and what there is to say of the whole."""

    folder: Path
    about: Mapping[str, Any]
    table: Sequence[Row]
    cells: Sequence[Row]
    plan: str
    name: str = ""

    @cached_property
    def seeds_of(self) -> Mapping[tuple[str, str], Sequence[Row]]:
        """Setting and method → their rows of ``cells.csv``, one a seed."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for cell in self.cells:
            groups.setdefault((cell["setting"], cell["method"]), []).append(cell)
        return groups

    @property
    def seed_counts(self) -> list[int]:
        """The different numbers of seeds of the table's rows, in order."""
        return sorted({int(real(row["seeds"])) for row in self.table if row.get("seeds")})


@dataclass(frozen=True)
class Audit:
    """Attacks on a configuration: a row a measure, ROC curves, and rebuilt images if there are."""

    folder: Path
    about: Mapping[str, Any]
    table: Sequence[Row]
    roc: Sequence[Row]
    name: str = ""

    @property
    def pictures(self) -> Path | None:
        """The archive of original and rebuilt images."""
        file = self.folder / "reconstructions.npz"
        return file if file.is_file() else None


Source = Run | Benchmark | Audit


def read_folder(folder: Path) -> Source:
    """Read a run, benchmark or audit folder.

    Raises:
        UserError: the folder is of another kind, the run is unfinished, or a file is unreadable.
    """
    if (folder / "benchmark.json").is_file():
        return _read_benchmark(folder)
    if (folder / "audit.json").is_file():
        about, roc = json_of(folder / "audit.json"), folder / "roc.csv"
        table = rows_of(folder / "table.csv", ("attack", "measure", "value"))
        return Audit(folder, about, table, rows_of(roc, ("attack", "fpr", "tpr")) if roc.is_file() else ())
    if not (folder / "config.toml").is_file():
        if any(folder.glob("runs/*/seed-*/")):
            raise UserError(
                f"{folder}: a benchmark that is not finished (it has no benchmark.json); start its command "
                f"again, `fedtransfer benchmark … --out {folder}`: it resumes. A finished run of it, such as "
                f"{folder}/runs/SETTING/seed-0/METHOD, has its own report"
            )
        state = "not a folder that fedtransfer wrote" if folder.is_dir() else "no such folder"
        raise UserError(
            f"{folder}: {state}; expected a run folder (config.toml, summary.json, history.csv), one of "
            "`fedtransfer benchmark` (benchmark.json) or of `fedtransfer audit` (audit.json)"
        )
    file = folder / "summary.json"
    if not file.is_file():
        raise UserError(
            f"{folder}: this run is not finished (it has no summary.json); go on with it by "
            f"`fedtransfer simulate --resume {folder}`"
        )
    config, summary = read_config(folder / "config.toml"), json_of(file)
    if missing := {"accuracy", "classes", "backbone", "rounds"} - set(summary):
        raise UserError(f"{file}: lacks {', '.join(sorted(missing))}; expected what fedtransfer writes")
    history = rows_of(folder / "history.csv", ("round", "phase", "status", "accuracy"))
    return Run(folder, config, summary, history)


def _read_benchmark(folder: Path) -> Benchmark:
    about, plan, cells_file = json_of(folder / "benchmark.json"), folder / "plan.toml", folder / "cells.csv"
    table = rows_of(folder / "table.csv", ("setting", "method", "accuracy"))
    cells = rows_of(cells_file, ("setting", "method", "seed")) if cells_file.is_file() else []
    in_table = {(row["setting"], row["method"]) for row in table}
    if missing := {(row["setting"], row["method"]) for row in cells} - in_table:
        setting, method = min(missing)
        raise UserError(
            f"{folder}: cells.csv has runs of {method!r} in {setting!r}, but table.csv has no such row; the "
            "two files are from different plans or were edited. Start the benchmark again with this --out: "
            "it writes both from the finished runs"
        )
    with _read(plan):
        return Benchmark(folder, about, table, cells, plan.read_text("utf-8") if plan.is_file() else "")


@contextmanager
def _read(file: Path) -> Iterator[None]:
    """Refuse a file that cannot be read."""
    try:
        yield
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None


def rows_of(file: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Raises:
        UserError: it cannot be read or lacks a column.
    """
    with _read(file), file.open(encoding="utf-8", newline="") as lines:
        rows = [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(lines)]
    if rows and (missing := set(columns) - set(rows[0])):
        raise UserError(
            f"{file}: has no column {', '.join(sorted(missing))}; expected the file that fedtransfer writes"
        )
    return rows


def json_of(file: Path) -> dict[str, Any]:
    """Read a JSON file with an object.

    Raises:
        UserError: it cannot be read.
    """
    with _read(file):
        return dict(json.loads(file.read_text("utf-8")))


def named(sources: Sequence[Source]) -> list[Source]:
    """Return sources with names that differ, each with as much of its path as that takes."""
    paths = [source.folder.resolve().parts for source in sources]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            break
    return [replace(source, name=name) for source, name in zip(sources, names, strict=True)]


def real(text: str | float | None) -> float:
    """Return a number of a table; NaN for an empty cell.

    Raises:
        UserError: it is no number.
    """
    try:
        return math.nan if text is None or text == "" else float(text)
    except ValueError:
        text = f"got {text!r} where a number was expected; the tables of the folder have been altered"
        raise UserError(text) from None


def of_training(row: Row) -> bool:
    """Whether a row of a history has scores: those of the head that enters a round of training."""
    return row["status"] == "ok" and row["phase"] in ("train", "score")


def _bytes(row: Row, way: str) -> float:
    return 0.0 if row["phase"] == "score" else real(row[f"bytes_{way}_per_site"] or 0)
