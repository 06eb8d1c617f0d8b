"""The sections about one run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.settings.option import changed, outside
from fedtransfer.common.support.text import counted
from fedtransfer.simulations.report import adaptation
from fedtransfer.simulations.report.blocks import Figure, Section, Table, epsilon, percent, power, shown
from fedtransfer.simulations.report.chart_data import Axis, Dot, Level, Series
from fedtransfer.simulations.report.charts import dot_chart, line_chart
from fedtransfer.simulations.report.counts import confusion, partition
from fedtransfer.simulations.report.reading import Run, real
from fedtransfer.simulations.report.words import options

ACCURACY = Axis("accuracy", kind="percent")
ROUNDS = Axis("rounds of training", whole=True)
BYTES = Axis("bytes to and from a site", log=True, kind="bytes")


def sections(run: Run) -> list[Section]:
    """Return what there is to show of a run; what its folder does not hold is left out."""
    rounds, sites, matrix = by_round(run), _by_site(run), run.summary.get("confusion_matrix")
    figures = {
        ("accuracy", "Accuracy by round"): rounds,
        ("sites", "Accuracy by site"): [sites] if sites else [],
        ("partition", "Who has what"): [partition(run)] if run.images[0] else [],
        ("confusion", "What is taken for what"): [confusion(run, np.array(matrix))] if matrix else [],
        ("epsilon", "Accuracy against ε"): _by_epsilon(run),
        ("bytes", "Accuracy against bytes"): _by_bytes(run),
    }
    made = [Section(key, title, figures=tuple(drawn)) for (key, title), drawn in figures.items() if drawn]
    troubles = _troubles(run)
    return [*made, *adaptation.sections(run), *([troubles] if troubles else [])]


def closing(run: Run) -> list[Section]:
    """Return configuration and repetition."""
    backbone = run.summary["backbone"]
    return [
        Section("configuration", "Configuration", (_changes(run.config),), tables=tuple(_settings(run.config)), folded=True),
        Section(
            "repeat", "To repeat it",
            (
                "From the run folder's own settings, bit for bit from the same feature store; or, where the folder is not at hand, "
                "by the options that are not at their defaults, which set the same:",
            ),
            code=(f"fedtransfer simulate --config {run.folder}/config.toml", options(run.config)),
            tables=(Table("Backbone", ("", ""), (
                ("name", shown(backbone["name"])), ("resolution", f"{backbone['resolution']} px"), ("fingerprint", backbone["fingerprint"]),
            )),),
        ),
    ]  # fmt: skip


def levels(run: Run) -> list[Level]:
    """Return the baselines on the common test set."""
    names = {"pooled": "all images in one place", "local_mean": "a site alone, mean", "majority": "most frequent class"}
    return [
        Level(names[key], told)
        for key, told in run.summary.get("baselines", {}).items()
        if key in names and told is not None
    ]


def by_round(run: Run) -> list[Figure]:
    """Draw accuracy by round, if the run has rounds whose accuracy is known."""
    x, y = run.curve("accuracy")
    if len(x) < 2:
        return []
    series = [Series("federation, test images", x, y)]
    validation = run.curve("validation_accuracy")
    if len(validation[0]) > 1:
        series.append(Series("federation, validation images", *validation))
    kept = run.summary["best_round"] - 1
    description = (
        f"Test accuracy goes from {percent(y[0])} before training to {percent(y[-1])} after {x[-1]:g} rounds, highest "
        f"{percent(max(y))}; " + "; ".join(f"{level.name} {percent(level.y)}" for level in levels(run))
    ).rstrip("; ") + "."
    note = f"The head that was kept is that after {counted(int(kept), 'round')}: it has the lowest validation loss."
    return [line_chart("Accuracy by round", description, series, ROUNDS, ACCURACY, levels(run), note=note)]


def _by_site(run: Run) -> Figure | None:
    accuracy: Mapping[str, float] = run.measured.get("site_accuracy") or {}
    if not accuracy:
        return None
    own = run.summary.get("baselines_on_own_test_images") or {}
    alone: Mapping[str, float] = own.get("local") or {}
    columns = ("federation's head", "the site alone") if alone else ("federation's head",)
    dots = [
        Dot(site, (accuracy[site], alone.get(site, math.nan))[: len(columns)])
        for site in sorted(accuracy, key=lambda site: -accuracy[site])
    ]
    means = (("pooled", "all images in one place, mean"), ("local_mean", "each site alone, mean"))
    levels_ = [Level(name, own[key]) for key, name in means if own.get(key) is not None]
    values = np.array([*accuracy.values()])
    description = (
        f"{counted(len(dots), 'site')}, best first. Accuracy on a site's own test images is from {percent(values.min())} "
        f"({shown(dots[-1].name, 30)}) to {percent(values.max())} ({shown(dots[0].name, 30)}), median "
        f"{percent(float(np.median(values)))}."
    )
    if own.get("local_mean") is not None:
        description += f" With a head that it trained alone a site has {percent(own['local_mean'])} in the mean"
        description += "." if alone else "; what each has alone is not in this run's folder."
    axis = Axis("accuracy on the site's own test images", kind="percent")
    return dot_chart("Accuracy by site", description, dots, columns, axis, levels_, "site", "summary.json")


def _by_epsilon(run: Run) -> list[Figure]:
    rows = [row for row in run.rounds_of_training if row["accuracy"] and row["epsilon"] and real(row["epsilon"]) > 0]
    if len(rows) < 2:
        return []
    x, y = ([real(row[column]) for row in rows] for column in ("epsilon", "accuracy"))
    axis = Axis(f"ε spent, at δ = {power(run.config.delta)}, unit: one {run.config.dp}", log=True, kind="epsilon")
    description = f"At ε = {epsilon(x[0])} accuracy is {percent(y[0])}, at ε = {epsilon(x[-1])} it is {percent(y[-1])}."
    return [line_chart("Accuracy against ε spent", description, [Series("federation", x, y)], axis, ACCURACY)]


def _by_bytes(run: Run) -> list[Figure]:
    x, y = run.traffic()
    if len(x) < 2:
        return []
    from fedtransfer.common.support.text import size

    description = f"After {size(x[0])} to and from a site accuracy is {percent(y[0])}, after {size(x[-1])} it is {percent(y[-1])}."
    return [
        line_chart(
            "Accuracy against bytes to and from a site",
            description,
            [Series("federation", x, y)],
            BYTES,
            ACCURACY,
            levels(run),
        )
    ]


def _troubles(run: Run) -> Section | None:
    summary = run.summary
    rows = [
        (shown(site), f"left out {told['times']} ×", shown(told["reason"], 160))
        for site, told in (summary.get("sites_left_out") or {}).items()
    ]
    for key, what in (("sites_absent", "absent"), ("sites_without_result", "without the result")):
        rows += [(shown(site), what, shown(why, 160)) for site, why in (summary.get(key) or {}).items()]
    text = tuple(shown(warning, 400) for warning in summary.get("warnings") or ())
    if unreadable := summary.get("images_unreadable"):
        text += (f"{counted(unreadable, 'image')} could not be read.",)
    tables = (
        (Table("Sites that missed something", ("site", "what", "why"), tuple(rows)).shortened(where="sites.csv"),)
        if rows
        else ()
    )
    return Section("warnings", "Worth knowing", text[:30], tables=tables) if text or rows else None


def _changes(config: RunConfig) -> str:
    names = [outside(name) for name in type(config).model_fields if changed(config, name)]
    return (
        f"{counted(len(names), 'setting')} of {len(type(config).model_fields)} differ from the default, and are marked "
        "with ●."
        if names
        else "Every setting is at its default."
    )


def _settings(config: RunConfig) -> list[Table]:
    panels: dict[str, list[str]] = {}
    for name, field in type(config).model_fields.items():
        extra: Any = field.json_schema_extra
        panels.setdefault(extra["panel"] or "Run", []).append(name)
    return [_panel(config, panel, names) for panel, names in panels.items()]


def _panel(config: RunConfig, panel: str, names: Sequence[str]) -> Table:
    marked = frozenset(i for i, name in enumerate(names) if changed(config, name))
    defaults = type(config).model_fields
    rows = tuple(
        (
            f"{'● ' if i in marked else ''}{outside(name)}",
            setting(getattr(config, name)),
            setting(defaults[name].default) if i in marked else "",
        )
        for i, name in enumerate(names)
    )
    return Table(panel, ("setting", "value", "default, where it differs"), rows, marked=marked, texts=True)


def setting(value: Any) -> str:
    """Return a setting's value as it is given: ``on`` and ``off``, an empty text as a dash."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else shown(value, 300) if value != "" else "–"
