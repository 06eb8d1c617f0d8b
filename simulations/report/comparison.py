"""The sections that compare several runs."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fedtransfer.common.config.settings.option import outside
from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report.blocks import NONE, Section, Table, percent, printable
from fedtransfer.simulations.report.comparison_answer import by_data
from fedtransfer.simulations.report.comparison_figures import figures
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.runs import setting
from fedtransfer.simulations.report.sentences import paragraphs, sentence

_WITHOUT_EFFECT = {"out", "store", "prepared", "resume", "log_json", "threads"}
_COLUMNS = 6  # most runs that are columns


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the names of settings that the runs do not agree in."""
    names = [name for name in type(runs[0].config).model_fields if name not in _WITHOUT_EFFECT]
    return [name for name in names if len({_value(run, name) for run in runs}) > 1]


def _value(run: Run, name: str) -> Any:
    """Return a setting, of a one-shot head 0 rounds: that it has another number is of no effect."""
    return run.config.training_rounds if name == "rounds" else getattr(run.config, name)


def sections(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Return what there is to compare."""
    return [
        Section("runs", "The runs side by side", tables=(_side_by_side(runs, names),)),
        *figures(runs, names),
        Section("settings", "Settings that differ", tables=(_differences(runs, names),)),
        Section(
            "repeat", "To repeat them", paragraphs("run", "repeat_several"),
            code=("\n".join(f"fedtransfer simulate --config {run.folder}/config.toml" for run in runs[:20]),),
            tables=(_backbones(runs, names),),
        ),
    ]  # fmt: skip


def _side_by_side(runs: Sequence[Run], names: Sequence[str]) -> Table:
    best = max((run.accuracy for run in runs if not math.isnan(run.accuracy)), default=math.nan)
    rows = tuple(
        (
            printable(name), sentence("privacy", "in_short", run), percent(run.accuracy), percent(run.summary.get("baselines", {}).get("pooled")),
            percent(run.measured.get("mean_site_accuracy")), percent(run.summary.get("baselines_on_own_test_images", {}).get("local_mean")),
            percent(run.measured.get("worst_site_accuracy")), "yes" if run.config.masks else "no",
            NONE if run.config.closed_form else f"{run.summary['rounds']:,}", size(sum(run.bytes)),
            f"{run.summary['seconds'].get('rounds', math.nan):,.1f}",
        )
        for run, name in zip(runs, names, strict=True)
    )  # fmt: skip
    columns = (
        "run", "differential privacy", "accuracy", "all in one place", "own images, mean of sites", "own images, each site alone",
        "own images, worst site", "masks", "rounds of training", "bytes a site", "seconds of rounds",
    )  # fmt: skip
    several = len({round(run.accuracy, 6) for run in runs if not math.isnan(run.accuracy)}) > 1
    one_data = len(by_data(runs)) == 1
    marked = frozenset(i for i, run in enumerate(runs) if several and one_data and run.accuracy == best)
    one_shot = any(run.config.closed_form for run in runs)
    outside = any("measured_outside_the_federation" in run.summary for run in runs)
    note = sentence("run", "side_by_side", several, one_data, one_shot, outside)
    return Table("The runs", columns, rows, note, marked).shortened(where="the run folders")


def _differences(runs: Sequence[Run], names: Sequence[str]) -> Table:
    fields = differing(runs)
    if len(runs) <= _COLUMNS:
        rows = tuple((outside(field), *(printable(_text(run, field), 40) for run in runs)) for field in fields)
        columns = ("setting", *(printable(name, 40) for name in names))
    else:
        columns = ("setting", "values, and how many runs have them")
        counts = [Counter(_text(run, field) for run in runs) for field in fields]
        rows = tuple(
            (
                outside(field),
                ", ".join(f"{value} ({times})" for value, times in count.most_common(12)) + ", …" * (len(count) > 12),
            )
            for field, count in zip(fields, counts, strict=True)
        )
    return Table("Settings that differ", columns, rows, sentence("run", "differences", bool(fields)), texts=True)


def _text(run: Run, name: str) -> str:
    return NONE if name == "rounds" and run.config.closed_form else setting(_value(run, name))


def _backbones(runs: Sequence[Run], names: Sequence[str]) -> Table:
    used: dict[tuple[str, str, str], list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        backbone = run.summary["backbone"]
        key = printable(backbone["name"]), f"{backbone['resolution']} px", backbone["fingerprint"]
        used.setdefault(key, []).append(printable(name, 40))
    rows = tuple(
        (*key, ", ".join(group) if len(group) < _COLUMNS else counted(len(group), "run")) for key, group in used.items()
    )
    return Table("Backbones", ("name", "resolution", "fingerprint", "runs"), rows)
