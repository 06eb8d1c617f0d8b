"""``fedtransfer benchmark``: all runs of a plan, over processes, each of which makes many in turn.

DIR/runs/SETTING/seed-S/METHOD/         a run folder each, with measured.json: every score of its head
DIR/runs/SETTING/seed-S/baselines.json  the scores of the baselines
DIR/runs/SETTING/tuning/METHOD/N/       the runs that choose settings
DIR/cells.csv                           a row a run
DIR/table.csv                           a row a setting and method: means over seeds
DIR/benchmark.json, plan.toml           how it was made, and of what
DIR/epsilon.png                         accuracy against ε, where runs have one

A run that is finished is not made again, one that was stopped goes on.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.benchmark.measures import Row, fairness
from fedtransfer.simulations.benchmark.memory import available_mb, processes_that_fit
from fedtransfer.simulations.benchmark.plans import Cell, Plan
from fedtransfer.simulations.benchmark.plots import plot_epsilon
from fedtransfer.simulations.benchmark.pool import Say, reason, results, workers
from fedtransfer.simulations.benchmark.standing import refuse_to_replace, tuned
from fedtransfer.simulations.benchmark.tables import Line, summarise, with_differences, write_cells, write_table
from fedtransfer.simulations.benchmark.tuning import choose, with_choices
from fedtransfer.simulations.report.failures import grouped

if TYPE_CHECKING:
    from fedtransfer.simulations.benchmark.cells import Features
    from fedtransfer.simulations.scoring.baselines import Score

Key = tuple[object, ...]


@dataclass
class Measured:
    """What came of a plan.

    Attributes:
        lines: the table.
        processes: runs made at a time.
        seconds: that each part took.
        backbones: what images were seen through.
        tuning: what was tried and chosen.
        failures: what failed → its error.
    """

    lines: Sequence[Line] = ()
    processes: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    backbones: list[Mapping[str, str]] = field(default_factory=list)
    tuning: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def run_plan(plan: Plan, out: Path, processes: int, cores: int, say: Say, force: bool = False) -> Measured:
    """Make all runs of a plan that are not there yet, and the tables of all.

    Args:
        plan: the runs.
        out: where the tables are written.
        processes: runs made at a time (0: one a core, as far as there is memory).
        cores: that they share.
        say: tells a person how far it is.
        force: whether finished runs are made again where tuning chooses otherwise now.

    Raises:
        UserError: such runs are there, without ``force``; or nothing at all could be made.
    """
    measured = Measured()
    say(_about(plan))
    with workers(processes or cores) as pool:
        with _timed(measured.seconds, "features"):
            features = _extract(pool, plan, say, measured.failures)
        if not features:
            raise _nothing_made(measured)
        need = max((found.peak_mb for found in features.values()), default=0.0)
        measured.processes = processes or processes_that_fit(cores, available_mb(), need)
        say(_about_processes(measured.processes, processes, cores, need))
        work = _Work(pool, measured, features, max(1, cores // measured.processes), say)
        with _timed(measured.seconds, "baselines"):
            baselines = work.baselines(plan.baselines)
        with _timed(measured.seconds, "tuning"):
            measured.tuning = choose(plan.tuning, work.losses(plan.tuning))
        for choice in measured.tuning:
            say(f"tuned: {choice['setting']}, {choice['method']}: {choice['chosen'] or 'no run of the grid went well'}")
        cells = with_choices(plan.cells, measured.tuning)
        if plan.tuning and not force:  # else nothing has changed since the folder was opened
            refuse_to_replace(tuned(cells), out)
        with _timed(measured.seconds, "runs"):
            rows = work.runs(cells, baselines)
    measured.backbones = list({found.facts["fingerprint"]: found.facts for found in features.values()}.values())
    rows = with_differences([*_sorted(plan, rows), *_baseline_rows(plan, baselines, features)])
    if not rows:
        raise _nothing_made(measured)
    settings = list(dict.fromkeys(cell.setting for cell in plan.baselines))
    rows.sort(key=lambda row: settings.index(row.setting))
    write_cells(out / "cells.csv", rows)
    measured.lines = summarise(rows, plan.expected)
    write_table(out / "table.csv", measured.lines)
    plot_epsilon(plan, measured.lines, out / "epsilon.png")
    return measured


@dataclass(frozen=True)
class _Work:
    """What is done of a plan once its features are there."""

    pool: Executor
    measured: Measured
    features: Mapping[Key, "Features"]
    threads: int
    say: Say

    def baselines(self, cells: Sequence[Cell]) -> dict[tuple[str, int], Mapping[str, "Score"]]:
        """Score the baselines of each setting and seed."""
        scores = {}
        cells = self._possible(cells)
        for cell, result in self._results(cells, lambda cell: (_measure_baselines, cell)):
            scores[cell.place] = result
            pooled = ", ".join(f"{name} {100 * score.common:.1f} %" for name, score in result.items())
            self.say(f"{len(scores)}/{len(cells)} {cell}: {pooled}")
        return scores

    def losses(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Return run → validation loss of the runs that choose settings."""
        losses = {}
        cells = self._possible(cells)
        for cell, row in self._results(cells, lambda cell: (_run_cell, cell, {}, {})):
            losses[str(cell)] = row.measures["nll"]
            self.say(f"{len(losses)}/{len(cells)} {cell}: validation loss {row.measures['nll']:.4f}")
        return losses

    def runs(self, cells: Sequence[Cell], baselines: Mapping[tuple[str, int], Mapping[str, "Score"]]) -> list[Row]:
        """Make the runs."""
        began, made, rows = time.monotonic(), 0, list[Row]()
        cells = self._possible(cells)

        def work(cell: Cell) -> tuple[Any, ...]:
            return _run_cell, cell, baselines.get(cell.place, {}), self.features[_key(cell)].facts

        for done, (cell, row) in enumerate(self._results(cells, work), 1):
            rows.append(row)
            made += bool(row.seconds)
            passed = time.monotonic() - began
            told = [f"{100 * row.measures['accuracy']:.1f} %", f"{row.seconds:.1f} s" if row.seconds else "was there"]
            if row.seconds and made > self.measured.processes:  # the first of each waits for TensorFlow
                told.append(f"about {passed / made * (len(cells) - done) / 60:.0f} min left")
            self.say(f"{done}/{len(cells)} {cell}: {', '.join(told)}")
        return rows

    def _results(self, cells: Sequence[Cell], work: Any) -> Iterator[tuple[Cell, Any]]:
        return results(self.pool, self.measured.processes, cells, work, self.say, self.measured.failures)

    def _possible(self, cells: Sequence[Cell]) -> list[Cell]:
        """Leave cells out whose features are not to be had, and give the others their threads."""
        update = {"threads": self.threads}
        return [
            replace(cell, config=cell.config.model_copy(update=update)) for cell in cells if _key(cell) in self.features
        ]


def _extract(pool: Executor, plan: Plan, say: Say, failures: dict[str, str]) -> dict[Key, "Features"]:
    """Extract features with all cores, those of a data set through a backbone at a time, in one process; return those
    that could be had.
    """
    features = {}
    for key, cell in {_key(cell): cell for cell in reversed((*plan.baselines, *plan.cells))}.items():
        config = cell.config
        resolution = f" at {config.resolution} px" if config.resolution else ""
        what = f"features of {config.data} by {config.backbone}{resolution}"
        say(f"{what} …")
        try:
            features[key] = pool.submit(_extract_features, cell).result()
        except Exception as error:
            failures.update(
                {f"{each.setting}, features": reason(error) for each in plan.baselines if _key(each) == key}
            )
            say(f"{what}: failed: {reason(error)}")
        else:
            for line in features[key].told:
                say(f"{what}: {line}")
    return features


def _key(cell: Cell) -> Key:
    """What the features of a setting depend on."""
    c = cell.config
    statistics = c.feature_statistics, c.standardise == "public", c.project == "pca"
    images = c.data, c.partition == "natural"
    return *images, c.backbone, c.weights, c.preprocessing, c.resolution, c.precision, *statistics


def _nothing_made(measured: Measured) -> UserError:
    return UserError("\n".join(["nothing of the plan could be made", *map(str, grouped(measured.failures, ()))]))


def _about(plan: Plan) -> str:
    tuning = f", after {len(plan.tuning)} that choose settings" if plan.tuning else ""
    return f"{len(plan.cells)} runs{tuning}; baselines of {len(plan.baselines)} settings and seeds"


def _about_processes(processes: int, wished: int, cores: int, need: float) -> str:
    if wished:
        return f"{processes} runs at a time, as told"
    memory = f"{need / 1000:.1f} GB a run so far, {available_mb() / 1000:.1f} GB free"
    return f"{processes} runs at a time: {cores} cores; {memory}"


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - began, 1)


def _sorted(plan: Plan, rows: Sequence[Row]) -> list[Row]:
    order = {(cell.setting, cell.method, cell.seed): i for i, cell in enumerate(plan.cells)}
    return sorted(rows, key=lambda row: order[row.setting, row.method, row.seed])


def _baseline_rows(
    plan: Plan, baselines: Mapping[tuple[str, int], Mapping[str, "Score"]], features: Mapping[Key, "Features"]
) -> list[Row]:
    rows = []
    for cell in plan.baselines:
        for name, score in baselines.get(cell.place, {}).items():
            alone = {"worse_than_local": math.nan} if name == "local only" else {}
            measures = {**score.measures, **fairness(score, baselines[cell.place]), **alone}
            rows.append(Row(cell.setting, name, cell.seed, measures, features[_key(cell)].facts))
    return rows


# These run in the workers, whose first one imports TensorFlow: this process does without.


def _extract_features(cell: Cell) -> "Features":
    from fedtransfer.simulations.benchmark.cells import extract_features

    return extract_features(cell.config.model_copy(update={"threads": 0}))


def _measure_baselines(cell: Cell) -> Mapping[str, "Score"]:
    from fedtransfer.simulations.benchmark.cells import measure_baselines

    return measure_baselines(cell)


def _run_cell(cell: Cell, baselines: Mapping[str, "Score"], facts: Mapping[str, str]) -> Row:
    from fedtransfer.simulations.benchmark.cells import run_cell

    return run_cell(cell, baselines, facts)
