"""Simulations, benchmarks and audits from Python."""

import builtins
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.methods.method import Method
from fedtransfer.common.support.text import nearest
from fedtransfer.run import Embed, Run, StrPath
from fedtransfer.table import Table, table_of

if TYPE_CHECKING:
    from fedtransfer.simulations.display import Display

Progress = bool | Literal["auto"]


def simulate(
    data: Any = None, *, strategy: Any = None, backbone: Any = None, out: StrPath = "", resume: bool = False,
    force: bool = False, progress: Progress = "auto", **settings: Any,
) -> Run:  # fmt: skip
    """Run a simulated federation and return the finished run.

    >>> run = simulate(sites=3, rounds=2, seed=1)
    >>> run.head[0].shape, len(run.classes), run.history["round"].tolist()
    ((256, 10), 10, [1, 2, 3])

    Args:
        data: what ``fedtransfer simulate --data`` takes (None: the bundled images); or examples in
            memory: a pair (x, y) of images (n, h, w, 3), uint8 or real numbers from 0 to 1, or of
            ready-made features (n, d), with labels (n,); a list of (path, label); a tf.data, Keras
            or PyTorch data set of (image, label); a Hugging Face ``Dataset`` with the columns image
            and label. A dict, site → examples, gives each site its examples.
        strategy: a name, a method such as ``ft.methods.fed3r``, or a ``Strategy``.
        backbone: a name or a Keras file; or a callable with a ``name``, which maps images
            (n, h, w, 3) uint8 to features (n, d) in this process, before the run begins.
        out: the run folder (default: runs/DATA-DATE-TIME).
        resume: go on with the run in ``out``, which keeps its settings.
        force: replace the run in ``out``.
        progress: whether to show it on standard error; ``auto`` does at a terminal and in a
            notebook. If it does not, warnings go to the log.
        settings: any other field of ``RunConfig``, such as ``sites=10`` or ``local_epochs=2``.

    Raises:
        UserError: an error that the caller can fix; the text says what was received and what was
            expected.
        KeyboardInterrupt: the run was interrupted; the text says how to go on.
    """
    if unknown := sorted(set(settings) - set(RunConfig.model_fields)):
        names = list(RunConfig.model_fields)
        remedies = (f"unknown setting {name!r}; {nearest(name, names)}" for name in unknown)
        raise UserError("\n".join(f"simulate: {remedy}" for remedy in remedies))
    embed = backbone if callable(backbone) else None
    if isinstance(backbone, str | PathLike):
        settings["backbone"] = str(backbone)
    elif backbone is not None and not embed:
        got = f"got {type(backbone).__name__}"
        raise UserError(f"backbone: {got}; expected a name, a file, or a callable with a name")
    if isinstance(strategy, str | Method):
        settings["strategy"], strategy = getattr(strategy, "name", strategy), None
    from fedtransfer.server.strategies.strategy import Strategy

    strategy = strategy() if callable(strategy) else strategy
    if not isinstance(strategy, Strategy | None):
        raise UserError(
            f"strategy: got {type(strategy).__name__}; expected a name, a method such as ft.methods.fed3r, "
            "or an ft.Strategy (examples/my_own_strategy.py has one)"
        )
    settings |= _data_settings(data, embed, settings)
    config = _config(settings, Path(out) if out else None, resume)

    from fedtransfer.simulations.federation import default_folder
    from fedtransfer.simulations.federation import simulate as run

    folder = Path(config.out or default_folder(config)).absolute()
    try:
        config = config.model_copy(update={"out": str(folder)})
        run(config, _display(progress), force=force, strategy=strategy)
    except KeyboardInterrupt:
        if not (folder / "config.toml").is_file():
            raise
        raise KeyboardInterrupt(
            f"stopped; finished rounds are kept. To go on: ft.simulate(out={str(folder)!r}, resume=True)"
        ) from None
    return Run(folder, embed)


@dataclass(frozen=True)
class Benchmark:
    """A finished benchmark.

    Attributes:
        folder: the folder of table.csv, report.html and a run folder for each run.
        table: a row for each setting and method, with means over seeds.
        failures: run → why it failed.
    """

    folder: Path
    table: Table
    failures: Mapping[str, str]


def benchmark(
    plan: StrPath, *, out: StrPath = "", data: Mapping[str, StrPath] | None = None, store: StrPath = "",
    processes: int = 0, force: bool = False, progress: Progress = "auto",
) -> Benchmark:  # fmt: skip
    """Run every unfinished setting x method x seed of a plan, as ``fedtransfer benchmark``.

    Args:
        plan: a TOML file, or the name of a bundled plan, such as ``quick``.
        out: folder of runs and tables (default: runs/benchmark-PLAN).
        data: the plan's name of a data set → its path.
        store: folder of the feature store.
        processes: number of runs at a time; 0: one a core, as far as memory allows.
        force: repeat finished runs whose settings have changed in the plan.
        progress: as in ``simulate``.

    Raises:
        UserError: the plan cannot be read, or all runs failed.
    """
    from fedtransfer.simulations.benchmark import PRESETS
    from fedtransfer.simulations.benchmark.folder import open_folder
    from fedtransfer.simulations.benchmark.plans import bundled_plan, read_plan
    from fedtransfer.simulations.benchmark.runs import run_plan

    path = bundled_plan(str(plan)) if str(plan) in PRESETS else Path(plan)
    folder, display = Path(out or Path("runs") / f"benchmark-{path.stem}"), _display(progress)
    full_plan = read_plan(path, folder, {name: str(file) for name, file in (data or {}).items()}, str(store))
    for remark in (*full_plan.remarks, *open_folder(folder, full_plan, force)):
        display.warn(remark)
    results = run_plan(full_plan, folder, processes, display.print, force=force)
    rows = [line.columns for line in results.lines]
    table = table_of({name: [row[name] for row in rows] for name in rows[0]})
    return Benchmark(folder, table, results.failures)


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes:
        folder: the folder of table.csv, roc.csv and report.html.
        findings: a row for each number that an attack measured.
    """

    folder: Path
    findings: Table


def audit(
    run: Run | StrPath, *, out: StrPath = "", shadows: int = 0, pictures: bool = True, force: bool = False,
    progress: Progress = "auto",
) -> Audit:  # fmt: skip
    """Attack a finished run as a curious server or member would, as ``fedtransfer audit`` does.

    Args:
        run: the run, or its folder.
        out: folder of the findings (default: audit/ in the run folder).
        shadows: shadow federations of membership inference; 0: 128.
        pictures: whether the folder gets original training images and their reconstructions.
        force: replace an earlier audit.
        progress: as in ``simulate``.

    Raises:
        UserError: the run is not finished, or cannot be repeated in memory.
    """
    from fedtransfer.simulations.audit.audits import Options, audit_run

    run_folder = run.folder if isinstance(run, Run) else Path(run)
    folder = Path(out or run_folder / "audit")
    options = Options(folder, shadows, {}, _display(progress), "", force=force, pictures=pictures)
    rows = [asdict(finding) for finding in audit_run(run_folder, options)]
    return Audit(folder, table_of({name: [row[name] for row in rows] for name in rows[0]}))


def _config(settings: Mapping[str, Any], out: Path | None, resume: bool) -> RunConfig:
    texts = {name: str(value) for name, value in settings.items() if isinstance(value, PathLike)}
    options = {name.replace("_", "-"): value for name, value in {**settings, **texts}.items()}
    if not resume:
        return make_config({**options, "out": str(out or "")}, "simulate")
    from fedtransfer.server.run_folder.folder import settings_of
    from fedtransfer.simulations.federation import resumed_config

    if out is None:
        raise UserError("simulate: resume=True goes on with a run; say which, by out=FOLDER")
    before = settings_of(out).to_flat()
    return resumed_config(out, {name: value for name, value in options.items() if before.get(name) != value})


def _data_settings(data: Any, embed: Embed | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that name the data; data in memory are written to disk first."""
    in_memory = data is not None and not isinstance(data, str | PathLike)
    if not in_memory and not embed:
        return {} if data is None else {"data": str(data)}
    natural = isinstance(data, Mapping) if in_memory else settings.get("partition") == "natural"
    if in_memory and natural and settings.get("partition", "natural") != "natural":
        why = "data is a dict, site → examples, so each site has its data"
        raise UserError(f"partition: {why}; leave partition out")
    from fedtransfer.simulations.data.archive import archive_data, archive_parts

    if in_memory:
        archive = archive_data(data, embed)
    else:
        from fedtransfer.common.data.sources import read_source
        from fedtransfer.simulations.data.datasets import read_sites, resolve_data
        from fedtransfer.simulations.data.examples import Examples

        path = resolve_data(str(data) if data is not None else RunConfig().data)
        sources = read_sites(path)[0] if natural else {"data": read_source(path)}
        parts = {name: Examples(source.images) for name, source in sources.items()}
        archive = archive_parts(parts, natural, embed)
    named = {"data": str(archive.path)} | ({"partition": "natural"} if natural else {})
    if archive.width:
        prefix = ""
        if embed:
            name = str(getattr(embed, "name", "") or getattr(embed, "__name__", "") or type(embed).__name__)
            prefix = re.sub(r"[^\w.-]", "_", name) + "-"
        named["backbone"] = f"{prefix}features-{archive.width}"
    return named


def _display(progress: Progress) -> "Display":
    from rich.console import Console

    from fedtransfer.simulations.display import Display, QuietDisplay

    notebook = "ipykernel" in sys.modules and hasattr(builtins, "__IPYTHON__")
    if progress is True or (progress == "auto" and (notebook or sys.stderr.isatty())):
        return Display(Console(stderr=not notebook, force_jupyter=False))  # text: widgets need a package
    return QuietDisplay()
