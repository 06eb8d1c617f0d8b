"""The sections about one run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.settings.option import changed, outside
from fedtransfer.simulations.report import adaptation
from fedtransfer.simulations.report.blocks import Figure, Section, Table, power, printable
from fedtransfer.simulations.report.chart_data import Axis, Dot, Level, Series
from fedtransfer.simulations.report.charts import dot_chart, line_chart
from fedtransfer.simulations.report.counts import confusion, partition
from fedtransfer.simulations.report.reading import Run, real
from fedtransfer.simulations.report.sentences import caption, paragraphs, sentence

ACCURACY = Axis("accuracy", kind="percent")
ROUNDS = Axis("rounds of training", whole=True)
BYTES = Axis("bytes to and from a site", log=True, kind="bytes")


def sections(run: Run) -> list[Section]:
    """Return what there is to show of a run; what its folder does not hold is left out."""
    matrix = run.summary.get("confusion_matrix")
    figures = {
        ("accuracy", "Accuracy by round"): _by_round(run),
        ("sites", "Accuracy by site"): _by_site(run),
        ("partition", "Who has what"): partition(run) if run.images[0] else None,
        ("confusion", "What is taken for what"): confusion(run, np.array(matrix)) if matrix else None,
        ("epsilon", "Accuracy against ε"): _by_epsilon(run),
        ("bytes", "Accuracy against bytes"): _by_bytes(run),
    }
    parts = [Section(key, title, figures=(figure,)) for (key, title), figure in figures.items() if figure]
    return [*parts, *adaptation.sections(run), *_warnings(run)]


def closing(run: Run) -> list[Section]:
    """Return configuration and repetition."""
    backbone, fields = run.summary["backbone"], type(run.config).model_fields
    changes = paragraphs("run", "changed_settings", sum(changed(run.config, name) for name in fields), len(fields))
    return [
        Section("configuration", "Configuration", changes, tables=tuple(_settings(run.config)), folded=True),
        Section(
            "repeat", "To repeat it",
            paragraphs("run", "repeat"),
            code=(f"fedtransfer simulate --config {run.folder}/config.toml", options(run.config)),
            tables=(Table("Backbone", ("", ""), (
                ("name", printable(backbone["name"])), ("resolution", f"{backbone['resolution']} px"), ("fingerprint", backbone["fingerprint"]),
            )),),
        ),
    ]  # fmt: skip


def _levels(run: Run) -> list[Level]:
    """Return the baselines on the common test set."""
    names = {"pooled": "all images in one place", "local_mean": "a site alone, mean", "majority": "most frequent class"}
    baselines = run.summary.get("baselines", {})
    return [Level(names[key], baselines[key]) for key in baselines if key in names and baselines[key] is not None]


def _by_round(run: Run) -> Figure | None:
    """Draw accuracy by round, if the run has rounds whose accuracy is known."""
    x, y = run.curve("accuracy")
    if len(x) < 2:
        return None
    series = [Series("federation, test images", x, y)]
    validation = run.curve("validation_accuracy")
    if len(validation[0]) > 1:
        series.append(Series("federation, validation images", *validation))
    words = caption("by_round", x, y, _levels(run), run.summary["best_round"] - 1)
    return line_chart(words, series, ROUNDS, ACCURACY, _levels(run))


def _by_site(run: Run) -> Figure | None:
    accuracy: Mapping[str, float] = run.measured.get("site_accuracy") or {}
    if not accuracy:
        return None
    baselines = run.summary.get("baselines_on_own_test_images") or {}
    alone: Mapping[str, float] = baselines.get("local") or {}
    columns = ("federation's head", "the site alone") if alone else ("federation's head",)
    dots = [
        Dot(site, (accuracy[site], alone.get(site, math.nan))[: len(columns)])
        for site in sorted(accuracy, key=lambda site: -accuracy[site])
    ]
    means = (("pooled", "all images in one place, mean"), ("local_mean", "each site alone, mean"))
    levels = [Level(name, baselines[key]) for key, name in means if baselines.get(key) is not None]
    median = float(np.median([*accuracy.values()]))
    words = caption("by_site", dots, median, baselines.get("local_mean"), len(columns))
    axis = Axis("accuracy on the site's own test images", kind="percent")
    return dot_chart(words, dots, ("site", *columns), axis, levels, "summary.json")


def _by_epsilon(run: Run) -> Figure | None:
    rows = [row for row in run.rounds_of_training if row["accuracy"] and row["epsilon"] and real(row["epsilon"]) > 0]
    if len(rows) < 2:
        return None
    x, y = ([real(row[column]) for row in rows] for column in ("epsilon", "accuracy"))
    axis = Axis(f"ε spent, at δ = {power(run.config.delta)}, unit: one {run.config.dp}", log=True, kind="epsilon")
    return line_chart(caption("by_epsilon_spent", x, y), [Series("federation", x, y)], axis, ACCURACY)


def _by_bytes(run: Run) -> Figure | None:
    x, y = run.traffic()
    if len(x) < 2:
        return None
    return line_chart(caption("by_bytes", x, y), [Series("federation", x, y)], BYTES, ACCURACY, _levels(run))


def _warnings(run: Run) -> list[Section]:
    summary = run.summary
    rows = [
        (printable(site), f"left out {absence['times']} ×", printable(absence["reason"], 160))
        for site, absence in (summary.get("sites_left_out") or {}).items()
    ]
    for key, event in (("sites_absent", "absent"), ("sites_without_result", "without the result")):
        rows += [(printable(site), event, printable(reason, 160)) for site, reason in (summary.get(key) or {}).items()]
    text = tuple(printable(warning, 400) for warning in summary.get("warnings") or ())
    if unreadable := summary.get("images_unreadable"):
        text += (sentence("run", "unreadable_images", unreadable),)
    table = Table("Sites that missed something", ("site", "what", "why"), tuple(rows)).shortened(where="sites.csv")
    tables = (table,) if rows else ()
    return [Section("warnings", "Worth knowing", text[:30], tables=tables)] if text or rows else []


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
    return f"{value:g}" if isinstance(value, float) else printable(value, 300) if value != "" else "–"


def options(config: RunConfig) -> str:
    """Return the command that runs these settings, with the options that are not defaults."""
    import shlex

    parts = ["fedtransfer", "simulate"]
    for name, field in type(config).model_fields.items():
        if changed(config, name) and name not in ("out", "resume") and (field.json_schema_extra or {}).get("panel"):  # type: ignore[union-attr]
            value, option = getattr(config, name), f"--{name.replace('_', '-')}"
            parts += (
                [option if value else f"--no-{name.replace('_', '-')}"]
                if isinstance(value, bool)
                else [option, str(value)]
            )
    return shlex.join(parts)
