"""Failures of a plan, grouped: settings, the number of their runs, and the reason."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fedtransfer.common.support.text import counted


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
