"""A benchmark's folder: what of a plan is there, what is missing, and how its tables were made."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig, Value, make_config
from fedtransfer.common.config.settings.training import onnx_parts
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import is_empty, write_whole
from fedtransfer.common.support.text import counted, plain
from fedtransfer.server.run_folder.folder import settings_of
from fedtransfer.simulations.benchmark.plans import Cell, Plan
from fedtransfer.simulations.benchmark.tables import Line
from fedtransfer.simulations.data.datasets import NAMES, archive_of


@dataclass
class Measured:
    """The results of a plan: its table, and what ``benchmark.json`` says of how it was made."""

    lines: Sequence[Line] = ()
    processes: int = 1  # runs at a time
    seconds: dict[str, float] = field(default_factory=dict)  # part → wall time
    backbones: list[Mapping[str, str]] = field(default_factory=list)
    tuning: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # what failed → its error

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note the seconds of a part."""
        began = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - began, 1)


@dataclass(frozen=True)
class Finished:
    """Finished runs and baselines."""

    done: Sequence[Cell]  # those that are not repeated
    changed: Sequence[Cell]  # those whose settings in the plan are others now
    example: str  # one of these, and what differs; "" if there is none

    def __str__(self) -> str:
        baselines = sum(not cell.method for cell in self.changed)
        runs = len(self.changed) - baselines
        parts = [counted(runs, "finished run")] * bool(runs)
        parts += [f"{counted(baselines, 'set')} of baselines"] * bool(baselines)
        have = "has" if len(self.changed) == 1 else "have"
        return f"{' and '.join(parts)} there {have} other settings than the plan now: {self.example}"

    def refuse_to_replace(self, out: Path) -> None:
        """Refuse to repeat finished runs that have other settings now: their results would be lost.

        Raises:
            UserError: there are such.
        """
        if self.changed:
            raise UserError(
                f"--out {out}: {self}. None of them was replaced: choose another --out, or give --force to "
                "make them again"
            )


def finished(plan: Plan) -> Finished:
    """Compare a plan's runs and baselines with its folder; what tuning chooses may be any value."""
    tuned = {(cell.setting, cell.method): set(cell.tried) for cell in plan.tuning}
    return compare([*plan.cells, *plan.tuning, *plan.baselines], tuned)


def compare(cells: Iterable[Cell], tuned: Mapping[tuple[str, str], set[str]] | None = None) -> Finished:
    """Compare runs with the folder; ``tuned``: setting and method → settings of any value."""
    done, changed, example = list[Cell](), list[Cell](), ""
    for cell in cells:
        if not (config := _settings(cell)):
            continue
        free = () if cell.tried else (tuned or {}).get((cell.setting, cell.method), ())
        differences = {key: pair for key, pair in differing(config, cell.config).items() if key not in free}
        (changed if differences else done).append(cell)
        if differences and not example:
            texts = (f"{key} was {was!r}, is {now!r}" for key, (was, now) in differences.items())
            example = f"{cell}: {'; '.join(texts)}"
    return Finished(done, changed, example)


def _settings(cell: Cell) -> RunConfig | None:
    """Return the settings of a finished run or of baselines; None if missing or unfinished."""
    folder = Path(cell.config.out)
    if cell.method:
        return settings_of(folder) if (folder / "summary.json").is_file() else None
    file = folder / "baselines.json"
    return make_config(json.loads(file.read_text("utf-8"))["settings"], str(file)) if file.is_file() else None


def differing(one: RunConfig, other: RunConfig) -> dict[str, tuple[Value | None, Value | None]]:
    """Return setting → its values in both, if it decides the result; None where it is irrelevant.

    Paths and the number of threads decide nothing.
    """
    first, second = _determining(one), _determining(other)
    pairs = {key: (first.get(key), second.get(key)) for key in (*first, *second)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _determining(config: RunConfig) -> dict[str, Value]:
    left_out = {"out", "store", "threads", "resume", "models"}
    if config.partition == "natural":
        left_out.add("sites")
    if config.hides_counts:  # a simulation declares the classes of its data
        left_out |= {"classes", "class-names"}
    return {key: value for key, value in config.to_flat().items() if key not in left_out}


def open_folder(folder: Path, plan: Plan, force: bool = False) -> list[str]:
    """Make a benchmark's folder, or take up the one there is, and write its ``plan.toml``.

    Return what a person should know of a folder that another plan began. With ``force``, finished
    runs that have other settings now are made again.

    Raises:
        UserError: there is something else, or finished runs would be replaced without ``force``.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is a file; expected a folder")
    begun = (folder / "plan.toml").is_file() and (folder / "runs").is_dir()
    if folder.is_dir() and not is_empty(folder) and not begun:
        raise UserError(f"--out {folder}: exists and is no benchmark; choose another folder")
    runs, remarks = finished(plan), list[str]()
    if not force:
        runs.refuse_to_replace(folder)
    if begun and (folder / "plan.toml").read_text("utf-8") != plan.text:
        remarks.append(
            f"{folder}: was begun by another plan, which this one replaces; runs that only that one has stay "
            "there, and are not in the tables"
        )
    if runs.changed:
        remarks.append(f"{folder}: {runs}; they are made again")
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    write_whole(folder / "plan.toml", plan.text)
    return remarks


def write_record(folder: Path, command: str, plan: Plan, measured: Measured) -> None:
    """Write ``benchmark.json``, with the command as it was given."""
    accuracy = {(line.setting, line.method): line.estimates["accuracy"].mean for line in measured.lines}
    expected = [{**e.model_dump(), "measured": accuracy.get((e.setting, e.method))} for e in plan.expected]
    record = {
        "command": command,
        "data": sorted({cell.config.data for cell in plan.baselines}),
        "backbones": [{"name": facts["backbone"], **facts} for facts in measured.backbones],
        "seconds": measured.seconds,
        "processes": measured.processes,
        "seeds": list(dict.fromkeys(cell.seed for cell in plan.baselines)),
        "tuning": measured.tuning,
        "expected": expected,
        "left_out": plan.remarks,
        "failures": measured.failures,
    }
    write_whole(folder / "benchmark.json", json.dumps(plain(record), indent=2, ensure_ascii=False) + "\n")


def described(plan: Plan, out: Path) -> dict[str, str]:
    """Return in words, by subject: what a plan has, what of it is there, and what it needs."""
    runs = finished(plan)
    done = set(map(str, runs.done))
    configs = [cell.config for cell in (*plan.baselines, *plan.cells)]

    def listed(names: Iterable[object]) -> str:
        each = dict.fromkeys(map(str, names))
        return f"{len(each)}: {', '.join(each)}" if each else ""

    def to_make(cells: Iterable[Cell]) -> str:
        names = set(map(str, cells))
        return f"{len(names - done):,} to make, {len(names & done):,} there" if names else ""

    facts = {
        "settings": listed(cell.setting for cell in plan.baselines),
        "left out": "\n".join(plan.remarks),
        "methods": listed(cell.method for cell in plan.cells) or "none, baselines alone",
        "seeds": listed(cell.seed for cell in plan.baselines),
        "tuning": to_make(plan.tuning),
        "runs": to_make(plan.cells),
        "baselines": f"{to_make(plan.baselines)}; of each setting and seed",
        "data": "\n".join(dict.fromkeys(map(_data, configs))),
        "backbones": "\n".join(dict.fromkeys(map(_backbone, configs))),
        "folder": str(out),
        "refused": f"{runs}; --force makes them again" if runs.changed else "",
    }
    return {subject: text for subject, text in facts.items() if text}


def _data(config: RunConfig) -> str:
    name = config.data
    if name not in NAMES:
        return f"{name}: there"  # settings whose data are not are left out of the plan
    if (archive := archive_of(name)) is None:
        return f"{name}: comes with fedtransfer"
    if archive.is_file():
        return f"{name}: there, {archive}"
    return f"{name}: to be downloaded by Keras, or taken from its cache; or --data {name}=FILE.npz"


def _backbone(config: RunConfig) -> str:
    name = config.backbone + (f" with {config.weights}" if config.weights else "")
    if config.backbone == BUNDLED:
        return f"{name}: comes with fedtransfer"
    if config.backbone in KERAS_BACKBONES and not config.weights:
        from fedtransfer.common.backbone.origin import imagenet_file

        file = imagenet_file(config.backbone)
        there = f"there, {file}" if file.is_file() else "ImageNet weights to be downloaded by Keras"
        return f"{name}: {there}"
    parts = onnx_parts(config.backbone)
    path = parts[0] if parts else Path(config.weights or config.backbone).expanduser()
    files = path, path.with_name(f"{path.name}.index")  # of a checkpoint, which is named by its prefix
    return f"{name}: {'there' if any(file.is_file() for file in files) else 'missing'}"
