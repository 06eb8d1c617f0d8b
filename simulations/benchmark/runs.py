"""``fedtransfer benchmark methods``: all runs of a plan, over processes, each of which makes many in turn.

DIR/runs/SETTING/seed-S/METHOD/         a run folder each
DIR/runs/SETTING/seed-S/baselines.json  what all data in one place give
DIR/cells.csv                           a row a run
DIR/table.csv                           a row a setting and method: means over seeds
DIR/epsilon.png                         accuracy against ε, where runs have one

A run that is finished is not made again, one that was stopped goes on.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from simulations.benchmark.plans import Cell, Plan
from simulations.benchmark.plots import plot_epsilon
from simulations.benchmark.tables import Line, Row, summarise, write_table

if TYPE_CHECKING:
    from simulations.benchmark.cells import Pooled

Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """What came of a plan: the table, what failed with its error, and the seconds that each part took."""

    lines: Sequence[Line]
    failures: Mapping[str, str]
    seconds: Mapping[str, float]


def run_plan(plan: Plan, out: Path, processes: int, cores: int, say: Say) -> Measured:
    """Make all runs of a plan that are not there yet, and the tables of all.

    Args:
        plan: the runs.
        out: where the tables are written.
        processes: runs made at a time.
        cores: that they share.
        say: tells a person how far it is.
    """
    failures: dict[str, str] = {}
    seconds: dict[str, float] = {}
    threads = max(1, cores // processes)
    with _workers(processes) as pool:
        with _timed(seconds, "features"):
            missing = _extract(pool, plan, say, failures)
        with _timed(seconds, "baselines"):
            pooled = _baselines(pool, _threaded(plan.baselines, threads, missing), say, failures)
        with _timed(seconds, "runs"):
            rows = _runs(pool, _threaded(plan.cells, threads, missing), pooled, say, failures)
    order = {(cell.setting, cell.method, cell.seed): i for i, cell in enumerate(plan.cells)}
    rows.sort(key=lambda row: order[row.setting, row.method, row.seed])
    write_table(out / "cells.csv", Row, rows)
    lines = _with_baselines(rows, pooled, [cell.setting for cell in plan.baselines])
    write_table(out / "table.csv", Line, lines)
    plot_epsilon(plan, lines, out / "epsilon.png")
    return Measured(lines, failures, {**seconds, "total": round(sum(seconds.values()), 1)})


@contextmanager
def _workers(processes: int) -> Iterator[Executor]:
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))  # TensorFlow does not survive a fork
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - began, 1)


def _threaded(cells: Sequence[Cell], threads: int, missing: set[str]) -> list[Cell]:
    """Give cells their threads, and leave those out whose data are not to be had."""
    return [
        replace(cell, config=cell.config.model_copy(update={"threads": threads}))
        for cell in cells
        if cell.config.data not in missing
    ]


def _extract(pool: Executor, plan: Plan, say: Say, failures: dict[str, str]) -> set[str]:
    """Extract features with all cores, a data set at a time; return the data sets that this failed for."""
    first = {cell.config.data: cell for cell in reversed(plan.baselines)}
    missing = set()
    for data, cell in sorted(first.items()):
        say(f"features of {data} …")
        try:
            extracted = pool.submit(_extract_features, cell).result()
        except Exception as error:
            failures[f"features of {data}"] = _told(error)
            missing.add(data)
        else:
            say(f"features of {data}: {extracted} extracted")
    return missing


def _baselines(
    pool: Executor, cells: Sequence[Cell], say: Say, failures: dict[str, str]
) -> dict[tuple[str, int], "Pooled"]:
    futures = {pool.submit(_measure_baselines, cell): cell for cell in cells}
    pooled = {}
    for cell, result in _results(futures, say, failures):
        pooled[cell.place] = result
        say(f"{cell}: pooled {100 * result.softmax:.1f} %, ridge {100 * result.ridge:.1f} %")
    return pooled


def _runs(
    pool: Executor, cells: Sequence[Cell], pooled: Mapping[tuple[str, int], "Pooled"], say: Say,
    failures: dict[str, str],
) -> list[Row]:  # fmt: skip
    began, made, rows = time.monotonic(), 0, []
    futures = {
        pool.submit(_run_cell, cell, pooled[cell.place].softmax if cell.place in pooled else math.nan): cell
        for cell in cells
    }
    for done, (cell, row) in enumerate(_results(futures, say, failures), 1):
        rows.append(row)
        made += bool(row.seconds)
        passed = time.monotonic() - began
        left = f"about {passed / made * (len(cells) - done) / 60:.0f} min left" if row.seconds else "was there"
        say(f"{done}/{len(cells)} {cell}: {100 * row.accuracy:.1f} %, {row.seconds:.1f} s, {left}")
    return rows


def _results(futures: Mapping[Future[Any], Cell], say: Say, failures: dict[str, str]) -> Iterator[tuple[Cell, Any]]:
    """Yield each cell that went well with what came of it, as they come; note the others with their error."""
    for future in as_completed(futures):
        cell = futures[future]
        if error := future.exception():
            failures[str(cell)] = _told(error)
            say(f"{cell}: failed")
        else:
            yield cell, future.result()


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _with_baselines(
    rows: Sequence[Row], pooled: Mapping[tuple[str, int], "Pooled"], settings: Sequence[str]
) -> list[Line]:
    """Summarise the runs, and under each setting its baselines."""
    baselines = [
        Row(setting, name, seed, value)
        for (setting, seed), result in sorted(pooled.items())
        for name, value in zip(("pooled softmax", "pooled ridge", "pooled NCM", "majority class"), asdict(result).values(), strict=True)
    ]  # fmt: skip
    lines = summarise([*rows, *baselines])
    place = {setting: i for i, setting in enumerate(dict.fromkeys(settings))}
    return sorted(lines, key=lambda line: place[line.setting])


# These run in the workers, whose first one imports TensorFlow: this process does without.


def _extract_features(cell: Cell) -> int:
    from simulations.benchmark.cells import extract_features

    return extract_features(cell.config.model_copy(update={"threads": 0}))


def _measure_baselines(cell: Cell) -> "Pooled":
    from simulations.benchmark.cells import measure_baselines

    return measure_baselines(cell)


def _run_cell(cell: Cell, pooled: float) -> Row:
    from simulations.benchmark.cells import run_cell

    return run_cell(cell, pooled)
