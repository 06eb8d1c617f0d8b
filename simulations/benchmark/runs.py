"""All runs of a plan, over processes that make many in turn.

DIR/runs/SETTING/seed-S/METHOD/         a run folder, with measured.json: every score of its head
DIR/runs/SETTING/seed-S/baselines.json  the scores of the baselines
DIR/runs/SETTING/tuning/METHOD/N/       the runs that choose settings
DIR/cells.csv                           a row a run
DIR/table.csv                           a row a setting and method: means over seeds
DIR/benchmark.json, plan.toml           how it was made, and from which plan
DIR/report.html                         all of it as a page
DIR/epsilon.png                         accuracy against ε, if runs have one

A finished run is not repeated, and a stopped one resumes.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.processes import CORES
from fedtransfer.simulations.benchmark import pool, tables
from fedtransfer.simulations.benchmark.folder import Measured, compare, write_record
from fedtransfer.simulations.benchmark.measures import Row, fairness
from fedtransfer.simulations.benchmark.plans import Cell, Plan, choose, with_choices
from fedtransfer.simulations.benchmark.pool import Say, reason
from fedtransfer.simulations.report.benchmark_runs import grouped
from fedtransfer.simulations.report.page import write_report

if TYPE_CHECKING:
    from fedtransfer.simulations.benchmark.cells import Extracted
    from fedtransfer.simulations.scoring.baselines import Score

Key = tuple[object, ...]
Features = dict[Key, "Extracted"]
Baselines = dict[tuple[str, int], Mapping[str, "Score"]]  # setting and seed → name → score
Work = Callable[[Cell], tuple[Any, ...]]  # cell → function and its arguments
Each = Callable[[list[Cell], Work], Iterator[tuple[str, Cell, Any]]]


def run_plan(
    plan: Plan, out: Path, processes: int, say: Say, *, force: bool = False, command: str = ""
) -> Measured:  # fmt: skip
    """Make all runs of a plan that are missing, and the tables and the report of all.

    Args:
        plan: the runs.
        out: the benchmark's folder, opened for the plan.
        processes: runs at a time (0: one a core, as far as there is memory).
        say: prints a line for a person.
        force: repeat finished runs for which tuning now chooses other settings.
        command: the command line, for the record.

    Raises:
        UserError: there are such runs, without ``force``; or no run succeeded.
    """
    measured = Measured()
    tuning = f", after {len(plan.tuning)} that choose settings" if plan.tuning else ""
    say(f"{len(plan.cells)} runs{tuning}; baselines of {len(plan.baselines)} settings and seeds")
    with pool.Workers(processes or CORES) as executor:
        with measured.timed("features"):
            features = _extract(executor, plan, say, measured.failures)
        if not features:
            raise _no_result(measured)
        need, free = max(each.peak_mb for each in features.values()), pool.available_mb()
        measured.processes = processes or pool.processes_that_fit(CORES, free, need)
        memory = f"{CORES} cores; {need / 1000:.1f} GB a run so far, {free / 1000:.1f} GB free"
        say(f"{measured.processes} runs at a time" + (", as requested" if processes else f": {memory}"))

        def each(cells: list[Cell], work: Work) -> Iterator[tuple[str, Cell, Any]]:
            """Yield progress, cell and result where there are features; runs share the threads."""
            threads = {"threads": max(1, CORES // measured.processes)}
            able = [c for c in cells if _key(c) in features]
            able = [replace(c, config=c.config.model_copy(update=threads)) for c in able]
            done = pool.results(executor, measured.processes, able, work, say, measured.failures)
            for number, (cell, result) in enumerate(done, 1):
                yield f"{number}/{len(able)} {cell}", cell, result

        baselines, losses = Baselines(), dict[str, float]()
        with measured.timed("baselines"):
            for name, cell, scores in each(plan.baselines, lambda c: (_in_worker, "measure_baselines", c)):
                baselines[cell.key] = scores
                accuracy = (f"{baseline} {100 * score.common:.1f} %" for baseline, score in scores.items())
                say(f"{name}: {', '.join(accuracy)}")
        with measured.timed("tuning"):
            for name, cell, row in each(plan.tuning, lambda cell: (_in_worker, "run_cell", cell, {}, {})):
                losses[str(cell)] = row.measures["nll"]
                say(f"{name}: validation loss {row.measures['nll']:.4f}")
            measured.tuning = choose(plan.tuning, losses)
        for choice in measured.tuning:
            chosen = choice["chosen"] or "no run of the grid went well"
            say(f"tuned: {choice['setting']}, {choice['method']}: {chosen}")
        cells = with_choices(plan.cells, measured.tuning)
        if plan.tuning and not force:  # else nothing has changed since the folder was opened
            compare(cells).refuse_to_replace(out)
        with measured.timed("runs"):
            rows = _runs(cells, each, baselines, features, measured.processes, say)
    measured.backbones = list({each.facts["fingerprint"]: each.facts for each in features.values()}.values())
    order = {(cell.setting, cell.method, cell.seed): i for i, cell in enumerate(plan.cells)}
    rows.sort(key=lambda row: order[row.setting, row.method, row.seed])
    rows = tables.with_differences([*rows, *_baseline_rows(plan, baselines, features)])
    if not rows:
        raise _no_result(measured)
    settings = list(dict.fromkeys(cell.setting for cell in plan.baselines))
    rows.sort(key=lambda row: settings.index(row.setting))
    measured.lines = tables.summarise(rows, plan.expected)
    tables.write_tables(out, rows, measured.lines)
    tables.plot_epsilon(plan, measured.lines, out / "epsilon.png")
    write_record(out, command, plan, measured)
    write_report([out], out / "report.html", command)
    return measured


def _no_result(measured: Measured) -> UserError:
    return UserError("\n".join(["no run of the plan succeeded", *map(str, grouped(measured.failures, ()))]))


def _extract(executor: Executor, plan: Plan, say: Say, failures: dict[str, str]) -> Features:
    """Extract features with all cores, in one process, a data set and backbone at a time."""
    features = {}
    for key, cell in {_key(cell): cell for cell in reversed((*plan.baselines, *plan.cells))}.items():
        config = cell.config.model_copy(update={"threads": 0})
        resolution = f" at {config.resolution} px" if config.resolution else ""
        name = f"features of {config.data} by {config.backbone}{resolution}"
        say(f"{name} …")
        try:
            features[key] = executor.submit(_in_worker, "extract_features", config).result()
        except Exception as error:
            failed = (each.setting for each in plan.baselines if _key(each) == key)
            failures.update({f"{setting}, features": reason(error) for setting in failed})
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


def _runs(
    cells: list[Cell], each: Each, baselines: Baselines, features: Features, processes: int, say: Say
) -> list[Row]:
    began, new, rows = time.monotonic(), 0, list[Row]()

    def work(cell: Cell) -> tuple[Any, ...]:
        return _in_worker, "run_cell", cell, baselines.get(cell.key, {}), features[_key(cell)].facts

    for name, _, row in each(cells, work):
        rows.append(row)
        new += bool(row.seconds)
        took = f"{row.seconds:.1f} s" if row.seconds else "was there"
        facts = [f"{100 * row.measures['accuracy']:.1f} %", took]
        if row.seconds and new > processes:  # the first run of each process waits for imports
            minutes = (time.monotonic() - began) / new * (len(cells) - len(rows)) / 60
            facts.append(f"about {minutes:.0f} min left")
        say(f"{name}: {', '.join(facts)}")
    return rows


def _baseline_rows(plan: Plan, baselines: Baselines, features: Features) -> list[Row]:
    rows = []
    for cell in plan.baselines:
        for name, score in baselines.get(cell.key, {}).items():
            alone = {"worse_than_local": math.nan} if name == "local only" else {}
            measures = {**score.measures, **fairness(score, baselines[cell.key]), **alone}
            rows.append(Row(cell.setting, name, cell.seed, measures, features[_key(cell)].facts))
    return rows


def _in_worker(function: str, *arguments: Any) -> Any:
    """Call a function of ``cells`` in a worker: it may import TensorFlow; this process does not."""
    from fedtransfer.simulations.benchmark import cells

    return getattr(cells, function)(*arguments)
