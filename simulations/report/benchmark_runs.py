"""What the runs behind a benchmark's tables say, if their folders are there, and what failed."""

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
from fedtransfer.simulations.scoring.estimate import rising

Curves = Mapping[str, Sequence[float]]  # method → accuracy by round
_DRAWN = frozenset([""])  # test images that are a run's own choice


def _runs_of(benchmark: Benchmark, setting: str, method: str = "") -> list[Path]:
    """Return a setting's run folders, of one method or all, that have a row in ``cells.csv``."""
    home, folders = benchmark.folder / "runs" / setting, list[Path]()
    for (of_setting, of_method), cells in benchmark.seeds_of.items():
        if of_setting == setting and method in ("", of_method):
            candidates = (home / f"seed-{cell['seed']}" / of_method for cell in cells)
            folders += [folder for folder in candidates if (folder / "history.csv").is_file()]
    return folders


def _config(folder: Path) -> RunConfig | None:
    try:
        return read_config(folder / "config.toml") if (folder / "config.toml").is_file() else None
    except UserError:  # written by another version
        return None


def _summary(folder: Path) -> Mapping[str, Any]:
    file = folder / "summary.json"
    return json_of(file) if file.is_file() else {}


def configs(benchmark: Benchmark) -> list[RunConfig]:
    """Return the settings of a run of each setting and method, of those that are there."""
    folders = [folder for key in benchmark.seeds_of for folder in _runs_of(benchmark, *key)[:1]]
    return [config for folder in folders if (config := _config(folder))]


def described(benchmark: Benchmark, setting: str) -> str:
    """Say what a setting is, ``On cifar10: 10 sites, images dealt …``; "" without run folders."""
    for folder in _runs_of(benchmark, setting)[:1]:
        config, summary = _config(folder), _summary(folder)
        return sentence("lead", "setting", config, summary["sites"]) if config and summary else ""
    return ""


def same_test_images(benchmark: Benchmark) -> bool | None:
    """Whether all settings are scored on the same test images; None without run folders.

    They are if the data bring them. Else each setting draws its own, and unseen sites have theirs.
    """
    settings = {row["setting"] for row in benchmark.table}
    folders = [folder for setting in settings for folder in _runs_of(benchmark, setting)[:1]]
    test_sets = [images for folder in folders if (images := _tested(folder))]
    if len({*test_sets}) > 1 or _DRAWN in test_sets:
        return False
    return True if len(test_sets) == len(settings) else None


def _tested(folder: Path) -> frozenset[str]:
    """Return test images in a run's data, ``_DRAWN`` if it drew its own; {} without its sites."""
    rows = [row for file in folder.glob("sites/*/images.csv") for row in rows_of(file, ("path", "split"))]
    brought = all(row["split"] for row in rows)
    return frozenset(row["path"] for row in rows if row["split"] == "test") if brought else _DRAWN


def promised(benchmark: Benchmark, private: Sequence[Result]) -> Mapping[tuple[str, str], list[str]]:
    """Return unit and neighbours → methods that promise privacy for them in their run folders."""
    units: dict[tuple[str, str], dict[str, None]] = {}
    for result in private:
        for folder in _runs_of(benchmark, result.row["setting"], result.method)[:1]:
            if promise := _summary(folder).get("privacy"):
                units.setdefault((promise["unit"], promise["neighbours"]), {})[result.method] = None
    return {unit: [*methods] for unit, methods in units.items()}


def curves(benchmark: Benchmark, setting: str) -> Curves:
    """Return method with rounds → accuracy before the first and after each, a mean over seeds."""
    by_method: dict[str, list[list[float]]] = {}
    for folder in _runs_of(benchmark, setting):
        rows = [row for row in rows_of(folder / "history.csv") if row["accuracy"] and of_training(row)]
        if len(rows) > 1:
            by_method.setdefault(folder.name, []).append([real(row["accuracy"]) for row in rows])
    return {
        method: np.mean([curve[: min(map(len, group))] for curve in group], axis=0).tolist()
        for method, group in by_method.items()
    }


def rising_methods(by_round: Curves) -> list[str]:
    """Return the methods whose accuracy still rose at their last round."""
    return [name for name, curve in by_round.items() if rising(curve)]


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
    """Count runs and baselines, given by parts of cells' names: method, tried settings, seed."""
    if parts[0] in ([], ["features"]) or (len(parts) == 1 and not every):
        return ", ".join(parts[0])
    baselines = sum(part[0] == "baselines" for part in parts)
    methods = dict.fromkeys(part[0] for part in parts if part[0] != "baselines")
    runs = counted(len(parts) - baselines, "run") + ("" if every else f" of {', '.join(methods)}")
    counts = [runs] * bool(methods) + [counted(baselines, "baseline")] * bool(baselines)
    return "all " * every + " and ".join(counts)
