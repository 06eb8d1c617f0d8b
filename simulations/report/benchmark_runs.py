"""What the runs behind a benchmark's tables say, as far as their folders are there, and what failed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedtransfer.common.config.config import RunConfig, read_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import counted
from fedtransfer.simulations.report.benchmark_measures import Result
from fedtransfer.simulations.report.reading import Benchmark, json_of, of_training, real, rows_of
from fedtransfer.simulations.report.sentences import sentence

_DRAWN = frozenset([""])  # test images that are a run's own choice


def _runs_of(benchmark: Benchmark, setting: str, method: str = "") -> list[Path]:
    """Return the run folders of a setting, of one method or of all, that have a row in ``cells.csv``.

    Folders of no row are left from another plan.
    """
    folders = []
    for (of_setting, of_method), cells in benchmark.seeds_of.items():
        if of_setting == setting and method in ("", of_method):
            candidates = (benchmark.folder / "runs" / setting / f"seed-{cell['seed']}" / of_method for cell in cells)
            folders += [folder for folder in candidates if (folder / "history.csv").is_file()]
    return folders


def configs(benchmark: Benchmark) -> list[RunConfig]:
    """Return the settings of a run of each setting and method, of those that are there."""
    folders = [folder for key in benchmark.seeds_of for folder in _runs_of(benchmark, *key)[:1]]
    return [config for folder in folders if (config := _config(folder))]


def described(benchmark: Benchmark, setting: str) -> str:
    """Say what a setting is: ``On cifar10: 10 sites, images dealt evenly at random.``; "" without run folders."""
    for folder in _runs_of(benchmark, setting)[:1]:
        config, summary = _config(folder), folder / "summary.json"
        if config and summary.is_file():
            return sentence("lead", "setting", config, json_of(summary)["sites"])
    return ""


def same_test_images(benchmark: Benchmark) -> bool | None:
    """Whether all settings are scored on the same test images; None without run folders.

    They are if the data bring them. Else each setting draws its own, and sites set aside take theirs with them.
    """
    settings = {row["setting"] for row in benchmark.table}
    folders = [folder for setting in settings for folder in _runs_of(benchmark, setting)[:1]]
    test_sets = [images for folder in folders if (images := _tested(folder))]
    if len({*test_sets}) > 1 or _DRAWN in test_sets:
        return False
    return True if len(test_sets) == len(settings) else None


def _tested(folder: Path) -> frozenset[str]:
    """Return the test images that a run's data brought, ``_DRAWN`` if it drew its own; empty without its sites."""
    rows = [row for file in folder.glob("sites/*/images.csv") for row in rows_of(file, ("path", "split"))]
    brought = all(row["split"] for row in rows)
    return frozenset(row["path"] for row in rows if row["split"] == "test") if brought else _DRAWN


def promised(benchmark: Benchmark, private: Sequence[Result]) -> Mapping[str, list[str]]:
    """Return what is protected, in words → methods that promise it, if their run folders are there."""
    units: dict[str, dict[str, None]] = {}
    for result in private:
        for folder in _runs_of(benchmark, result.row["setting"], result.method)[:1]:
            if (folder / "summary.json").is_file() and (promise := json_of(folder / "summary.json").get("privacy")):
                units.setdefault(_protected(promise), {})[result.method] = None
    return {unit: [*methods] for unit, methods in units.items()}


def _protected(promise: Mapping[str, Any]) -> str:
    unit, neighbours = promise["unit"], promise["neighbours"]
    if neighbours == f"add or remove one {unit}":
        return f"one {'training image' if unit == 'image' else unit} added or removed"
    return f"{neighbours}"


def curves(benchmark: Benchmark, setting: str) -> dict[str, list[float]]:
    """Return method → accuracy before its first round and after each, the mean over its seeds; of methods with rounds."""
    by_method: dict[str, list[list[float]]] = {}
    for folder in _runs_of(benchmark, setting):
        rows = [row for row in rows_of(folder / "history.csv") if row["accuracy"] and of_training(row)]
        if len(rows) > 1:
            by_method.setdefault(folder.name, []).append([real(row["accuracy"]) for row in rows])
    return {
        method: np.mean([curve[: min(map(len, group))] for curve in group], axis=0).tolist()
        for method, group in by_method.items()
    }


def _config(folder: Path) -> RunConfig | None:
    file = folder / "config.toml"
    try:
        return read_config(file) if file.is_file() else None
    except UserError:  # written by another version
        return None


@dataclass(frozen=True)
class Failure:
    """Failures that share one error.

    Attributes:
        settings: where they failed, each with the same number of runs.
        runs: which runs and baselines, or how many.
        error: the reason.
        total: whether the settings have no result at all.
    """

    settings: tuple[str, ...]
    runs: str
    error: str
    total: bool

    def __str__(self) -> str:
        each = " each" if len(self.settings) > 1 else ""
        runs = f": {self.runs}" if self.runs else ""
        return f"{', '.join(self.settings)}{runs}{each} failed: {self.error}"


def failures(benchmark: Benchmark) -> list[Failure]:
    """Return what failed, each once."""
    return grouped(benchmark.about.get("failures") or {}, {row["setting"] for row in benchmark.table})


def grouped(failures: Mapping[str, str], settings: Collection[str]) -> list[Failure]:
    """Group failures of a setting by their error, and settings that fail alike.

    Args:
        failures: ``SETTING, METHOD, seed S`` or ``SETTING, features`` → error.
        settings: those with a result.
    """
    of_setting: dict[str, dict[str, list[Sequence[str]]]] = {}
    for name, error in failures.items():
        setting, *rest = name.split(", ")
        of_setting.setdefault(setting, {}).setdefault(error, []).append(rest)
    alike: dict[tuple[str, str, bool], list[str]] = {}
    for setting, errors in of_setting.items():
        for error, parts in errors.items():
            total = setting not in settings
            runs = _counts(parts, every=total and len(errors) == 1)
            alike.setdefault((runs, error, total), []).append(setting)
    return [Failure(tuple(names), *key) for key, names in alike.items()]


def _counts(parts: Sequence[Sequence[str]], every: bool) -> str:
    """Count runs and baselines, each given by the parts of a cell's name: method, tried settings, seed."""
    if parts[0] in ([], ["features"]) or (len(parts) == 1 and not every):
        return ", ".join(parts[0])
    baselines = sum(part[0] == "baselines" for part in parts)
    methods = dict.fromkeys(part[0] for part in parts if part[0] != "baselines")
    runs = counted(len(parts) - baselines, "run") + ("" if every else f" of {', '.join(methods)}")
    counts = [runs] * bool(methods) + [counted(baselines, "baseline")] * bool(baselines)
    return "all " * every + " and ".join(counts)
