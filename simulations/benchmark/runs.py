"""All runs of a plan, over processes that make many in turn.

DIR/runs/SETTING/seed-S/METHOD/         a run folder each, with measured.json: every score of its head
DIR/runs/SETTING/seed-S/baselines.json  the scores of the baselines
DIR/runs/SETTING/tuning/METHOD/N/       the runs that choose settings
DIR/cells.csv                           a row a run
DIR/table.csv                           a row a setting and method: means over seeds
DIR/benchmark.json, plan.toml           how it was made, and from which plan
DIR/epsilon.png                         accuracy against ε, if runs have one

A finished run is not repeated, and a stopped one resumes.
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
from fedtransfer.simulations.benchmark.finished import compare, refuse_to_replace
from fedtransfer.simulations.benchmark.measures import Row, fairness
from fedtransfer.simulations.benchmark.memory import available_mb, processes_that_fit
from fedtransfer.simulations.benchmark.plans import Cell, Plan
from fedtransfer.simulations.benchmark.plots import plot_epsilon
from fedtransfer.simulations.benchmark.pool import Say, reason, results, workers
from fedtransfer.simulations.benchmark.tables import Line, summarise, with_differences, write_cells, write_table
from fedtransfer.simulations.benchmark.tuning import choose, with_choices
from fedtransfer.simulations.report.benchmark_runs import grouped

if TYPE_CHECKING:
    from fedtransfer.simulations.benchmark.cells import Features
    from fedtransfer.simulations.scoring.baselines import Score

Key = tuple[object, ...]
Baselines = Mapping[tuple[str, int], Mapping[str, "Score"]]  # setting and seed → name → score


@dataclass
class Measured:
    """The results of a plan.

    Attributes:
        lines: the table.
        processes: runs at a time.
        seconds: of each part.
        backbones: through which images were seen.
        tuning: what was tried and chosen.
        failures: what failed → its error.
    """

    lines: Sequence[Line] = ()
    processes: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    backbones: list[Mapping[str, str]] = field(default_factory=list)
    tuning: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note the seconds of a part."""
        began = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - began, 1)

    @property
    def empty(self) -> UserError:
        """The error for a plan without any result."""
        return UserError("\n".join(["no run of the plan succeeded", *map(str, grouped(self.failures, ()))]))


def run_plan(plan: Plan, out: Path, processes: int, cores: int, say: Say, force: bool = False) -> Measured:
    """Make all runs of a plan that are missing, and the tables of all.

    Args:
        plan: the runs.
        out: where the tables are written.
        processes: runs at a time (0: one a core, as far as there is memory).
        cores: shared by all runs.
        say: prints a line for a person.
        force: repeat finished runs for which tuning now chooses other settings.

    Raises:
        UserError: there are such runs, without ``force``; or no run succeeded.
    """
    measured = Measured()
    tuning = f", after {len(plan.tuning)} that choose settings" if plan.tuning else ""
    say(f"{len(plan.cells)} runs{tuning}; baselines of {len(plan.baselines)} settings and seeds")
    with workers(processes or cores) as pool:
        with measured.timed("features"):
            features = _extract(pool, plan, say, measured.failures)
        if not features:
            raise measured.empty
        need, free = max(each.peak_mb for each in features.values()), available_mb()
        measured.processes = processes or processes_that_fit(cores, free, need)
        memory = f"{cores} cores; {need / 1000:.1f} GB a run so far, {free / 1000:.1f} GB free"
        say(f"{measured.processes} runs at a time" + (", as requested" if processes else f": {memory}"))
        work = _Work(pool, measured, features, max(1, cores // measured.processes), say)
        with measured.timed("baselines"):
            baselines = work.baselines(plan.baselines)
        with measured.timed("tuning"):
            measured.tuning = choose(plan.tuning, work.losses(plan.tuning))
        for choice in measured.tuning:
            say(f"tuned: {choice['setting']}, {choice['method']}: {choice['chosen'] or 'no run of the grid went well'}")
        cells = with_choices(plan.cells, measured.tuning)
        if plan.tuning and not force:  # else nothing has changed since the folder was opened
            refuse_to_replace(compare(cells), out)
        with measured.timed("runs"):
            rows = work.runs(cells, baselines)
    measured.backbones = list({each.facts["fingerprint"]: each.facts for each in features.values()}.values())
    order = {(cell.setting, cell.method, cell.seed): i for i, cell in enumerate(plan.cells)}
    rows.sort(key=lambda row: order[row.setting, row.method, row.seed])
    rows = with_differences([*rows, *_baseline_rows(plan, baselines, features)])
    if not rows:
        raise measured.empty
    settings = list(dict.fromkeys(cell.setting for cell in plan.baselines))
    rows.sort(key=lambda row: settings.index(row.setting))
    write_cells(out / "cells.csv", rows)
    measured.lines = summarise(rows, plan.expected)
    write_table(out / "table.csv", measured.lines)
    plot_epsilon(plan, measured.lines, out / "epsilon.png")
    return measured


@dataclass(frozen=True)
class _Work:
    """The work of a plan after its features."""

    pool: Executor
    measured: Measured
    features: Mapping[Key, "Features"]
    threads: int
    say: Say

    def baselines(self, cells: Sequence[Cell]) -> Baselines:
        """Score the baselines of each setting and seed."""
        scores = {}
        for progress, cell, result in self._results(cells, lambda cell: (_measure_baselines, cell)):
            scores[cell.key] = result
            accuracy = ", ".join(f"{name} {100 * score.common:.1f} %" for name, score in result.items())
            self.say(f"{progress} {cell}: {accuracy}")
        return scores

    def losses(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Return run → validation loss of the runs that choose settings."""
        losses = {}
        for progress, cell, row in self._results(cells, lambda cell: (_run_cell, cell, {}, {})):
            losses[str(cell)] = row.measures["nll"]
            self.say(f"{progress} {cell}: validation loss {row.measures['nll']:.4f}")
        return losses

    def runs(self, cells: Sequence[Cell], baselines: Baselines) -> list[Row]:
        """Make the runs."""
        began, new, rows = time.monotonic(), 0, list[Row]()

        def work(cell: Cell) -> tuple[Any, ...]:
            return _run_cell, cell, baselines.get(cell.key, {}), self.features[_key(cell)].facts

        for progress, cell, row in self._results(cells, work):
            rows.append(row)
            new += bool(row.seconds)
            took = f"{row.seconds:.1f} s" if row.seconds else "was there"
            facts = [f"{100 * row.measures['accuracy']:.1f} %", took]
            if row.seconds and new > self.measured.processes:  # the first run of each process waits for TensorFlow
                minutes = (time.monotonic() - began) / new * (len(cells) - len(rows)) / 60
                facts.append(f"about {minutes:.0f} min left")
            self.say(f"{progress} {cell}: {', '.join(facts)}")
        return rows

    def _results(self, cells: Sequence[Cell], work: Any) -> Iterator[tuple[str, Cell, Any]]:
        """Yield progress, cell and result, for cells whose features there are; each run has its share of threads."""
        threads = {"threads": self.threads}
        cells = [replace(c, config=c.config.model_copy(update=threads)) for c in cells if _key(c) in self.features]
        done = results(self.pool, self.measured.processes, cells, work, self.say, self.measured.failures)
        yield from ((f"{i}/{len(cells)}", cell, result) for i, (cell, result) in enumerate(done, 1))


def _extract(pool: Executor, plan: Plan, say: Say, failures: dict[str, str]) -> dict[Key, "Features"]:
    """Extract features with all cores, in one process: a data set and backbone at a time; return those that succeeded."""
    features = {}
    for key, cell in {_key(cell): cell for cell in reversed((*plan.baselines, *plan.cells))}.items():
        resolution = f" at {cell.config.resolution} px" if cell.config.resolution else ""
        name = f"features of {cell.config.data} by {cell.config.backbone}{resolution}"
        say(f"{name} …")
        try:
            features[key] = pool.submit(_extract_features, cell).result()
        except Exception as error:
            failures.update(
                {f"{each.setting}, features": reason(error) for each in plan.baselines if _key(each) == key}
            )
            say(f"{name}: failed: {reason(error)}")
        else:
            for line in features[key].lines:
                say(f"{name}: {line}")
    return features


def _key(cell: Cell) -> Key:
    """Return what the features of a setting depend on."""
    c = cell.config
    statistics = c.feature_statistics, c.standardise == "public", c.project == "pca"
    images = c.data, c.partition == "natural"
    return *images, c.backbone, c.weights, c.preprocessing, c.resolution, c.precision, *statistics


def _baseline_rows(plan: Plan, baselines: Baselines, features: Mapping[Key, "Features"]) -> list[Row]:
    rows = []
    for cell in plan.baselines:
        for name, score in baselines.get(cell.key, {}).items():
            alone = {"worse_than_local": math.nan} if name == "local only" else {}
            measures = {**score.measures, **fairness(score, baselines[cell.key]), **alone}
            rows.append(Row(cell.setting, name, cell.seed, measures, features[_key(cell)].facts))
    return rows


# These run in the workers, which import TensorFlow; this process does not.


def _extract_features(cell: Cell) -> "Features":
    from fedtransfer.simulations.benchmark.cells import extract_features

    return extract_features(cell.config.model_copy(update={"threads": 0}))


def _measure_baselines(cell: Cell) -> Mapping[str, "Score"]:
    from fedtransfer.simulations.benchmark.cells import measure_baselines

    return measure_baselines(cell)


def _run_cell(cell: Cell, baselines: Mapping[str, "Score"], facts: Mapping[str, str]) -> Row:
    from fedtransfer.simulations.benchmark.cells import run_cell

    return run_cell(cell, baselines, facts)
