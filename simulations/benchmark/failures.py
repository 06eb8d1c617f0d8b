"""What failed of a plan, told once: settings, how many of their runs, and why; in words of a plan, not of the command line."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.support.text import counted

_GIVEN = {"data", "store", "out"}  # what the command line of a benchmark has too


@dataclass(frozen=True)
class Failed:
    """Failures with one error.

    Attributes:
        settings: where; all with as many.
        what: which or how many runs and baselines.
        error: why.
        wholly: whether nothing at all was made of the settings.
    """

    settings: tuple[str, ...]
    what: str
    error: str
    wholly: bool

    def __str__(self) -> str:
        each = " each" if len(self.settings) > 1 else ""
        what = f": {self.what}" if self.what else ""
        return f"{', '.join(self.settings)}{what}{each} failed: {self.error}"


def told_once(failures: Mapping[str, str], made: Collection[str]) -> list[Failed]:
    """Put failures of a setting that have one error together, and settings that fail alike.

    Args:
        failures: what failed, ``SETTING, METHOD, seed S`` or ``SETTING, features`` → its error.
        made: the settings of which there is something.
    """
    of_setting: dict[str, dict[str, list[Sequence[str]]]] = {}
    for name, error in failures.items():
        setting, *rest = name.split(", ")
        of_setting.setdefault(setting, {}).setdefault(error, []).append(rest)
    alike: dict[tuple[str, str, bool], list[str]] = {}
    for setting, errors in of_setting.items():
        for error, parts in errors.items():
            wholly = setting not in made
            what = _what(parts, every=wholly and len(errors) == 1)
            alike.setdefault((what, error, wholly), []).append(setting)
    return [Failed(tuple(settings), *key) for key, settings in alike.items()]


def in_a_plan(error: str) -> str:
    """Say an error's options as keys of a plan, where they are settings that a benchmark's command line does not have."""
    keys = RunConfig().to_flat().keys() - _GIVEN
    told = re.sub(r"--([a-z][a-z-]*)", lambda option: option[1] if option[1] in keys else option[0], error)
    return told if told == error else f"{told} (in the plan)"


def _what(parts: Sequence[Sequence[str]], every: bool) -> str:
    """Count runs and baselines, each named as a cell is: method, what a tuning run tries, seed."""
    if parts[0] in ([], ["features"]) or (len(parts) == 1 and not every):
        return ", ".join(parts[0])
    baselines = sum(part[0] == "baselines" for part in parts)
    methods = dict.fromkeys(part[0] for part in parts if part[0] != "baselines")
    runs = counted(len(parts) - baselines, "run") + ("" if every else f" of {', '.join(methods)}")
    told = [runs] * bool(methods) + [counted(baselines, "baseline")] * bool(baselines)
    return "all " * every + " and ".join(told)
