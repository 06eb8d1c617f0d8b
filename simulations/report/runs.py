"""The page about one run: the answer, figures, adapted heads, what went wrong, and settings."""

import math
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.settings.option import changed, outside
from fedtransfer.common.wire.protocol import PERSONAL_HEADS
from fedtransfer.simulations.report.blocks import Fact, Figure, Page, Section, Table
from fedtransfer.simulations.report.chart_data import Axis, Dot, Levels, Series
from fedtransfer.simulations.report.charts import dot_chart, line_chart
from fedtransfer.simulations.report.counts import confusion, partition
from fedtransfer.simulations.report.reading import Run, of_training, real
from fedtransfer.simulations.report.sentences import caption, fact, paragraphs, sentence, table
from fedtransfer.simulations.report.texts import names, percent, pixels, power, printable
from fedtransfer.simulations.scoring.estimate import rising

ACCURACY = Axis("accuracy", kind="percent")
OF_SITES = Axis("accuracy on the site's own test images", kind="percent")
ROUNDS = Axis("rounds of training", whole=True)
BYTES = Axis("bytes to and from a site", log=True, kind="bytes")


def page(run: Run) -> Page:
    """Lay out the page; what the run's folder does not hold is left out."""
    matrix = run.summary.get("confusion_matrix")
    figures = {
        ("accuracy", "Accuracy by round"): _by_round(run),
        ("sites", "Accuracy by site"): _by_site(run),
        ("partition", "Who has what"): partition(run) if run.images[0] else None,
        ("confusion", "What is taken for what"): confusion(run, np.array(matrix)) if matrix else None,
        ("epsilon", "Accuracy against ε"): _by_epsilon(run),
        ("bytes", "Accuracy against bytes"): _by_bytes(run),
    }
    facts = [_accuracy(run), fact("privacy", "of_run", run), fact("cost", "of_run", run)]
    sections = [*in_sections(figures), *_adapted(run), *_warnings(run), *_closing(run)]
    return Page(printable(run.name), sentence("lead", "of_run", run, ()), facts, sections)


def in_sections(figures: Mapping[tuple[str, str], Figure | None]) -> list[Section]:
    """Return a section for each key and title that has a figure."""
    return [Section(key, title, figures=[figure]) for (key, title), figure in figures.items() if figure]


def _accuracy(run: Run) -> Fact:
    """Answer how good the head is, with the 95 % interval of its accuracy (Wilson 1927)."""
    from scipy.stats import binomtest

    summary, interval = run.summary, None
    outside, public = "measured_outside_the_federation" in summary, summary.get("scored_on") == "public-data"
    matrix = summary.get("confusion_matrix")
    images = int(np.sum(matrix)) if matrix and not (outside and public) else 0
    if images and not math.isnan(run.accuracy):
        interval = binomtest(round(run.accuracy * images), images).proportion_ci(0.95, "wilson")
    by_site = run.measured.get("site_accuracy") or {}
    alone = summary.get("baselines_on_own_test_images") or {}
    local = alone.get("local", {})
    compared = [accuracy > by_site[site] for site, accuracy in local.items() if site in by_site]
    worst = min(by_site, key=lambda site: by_site[site], default="")
    rise = rising(run.curve("accuracy")[1])
    facts = outside, public, images, interval, worst, alone.get("local_mean"), compared, rise
    return fact("accuracy", "of_run", run, *facts)


def _levels(run: Run) -> Levels:
    """Return the baselines on the common test set."""
    titles, baselines = names("baselines"), run.summary.get("baselines", {})
    return [(titles[key], baselines[key]) for key in titles if baselines.get(key) is not None]


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
    columns = ["federation's head", "the site alone"] if alone else ["federation's head"]
    sites = sorted(accuracy, key=lambda site: -accuracy[site])
    dots = [Dot(site, (accuracy[site], alone.get(site, math.nan))[: len(columns)]) for site in sites]
    means = (("pooled", "all images in one place, mean"), ("local_mean", "each site alone, mean"))
    levels = [(name, baselines[key]) for key, name in means if baselines.get(key) is not None]
    median = float(np.median([*accuracy.values()]))
    words = caption("by_site", dots, median, baselines.get("local_mean"), len(columns))
    return dot_chart(words, dots, ["site", *columns], OF_SITES, levels, file="summary.json")


def _by_epsilon(run: Run) -> Figure | None:
    rows = [row for row in run.history if row["accuracy"] and of_training(row) and real(row["epsilon"]) > 0]
    if len(rows) < 2:
        return None
    x, y = ([real(row[column]) for row in rows] for column in ("epsilon", "accuracy"))
    label = f"ε spent, at δ = {power(run.config.delta)}, unit: one {run.config.dp}"
    axis = Axis(label, log=True, kind="epsilon")
    return line_chart(caption("by_epsilon_spent", x, y), [Series("federation", x, y)], axis, ACCURACY)


def _by_bytes(run: Run) -> Figure | None:
    x, y = run.traffic()
    if len(x) < 2:
        return None
    return line_chart(caption("by_bytes", x, y), [Series("federation", x, y)], BYTES, ACCURACY, _levels(run))


def _adapted(run: Run) -> list[Section]:
    """Return a section about personal heads, and the head at sites that took no part."""
    tables = []
    if heads := run.summary.get("personal"):
        keys = ("mean", "worst", "pooled", "worse_than_global", "worse_than_local")
        kinds = [[outside(kind), *(percent(heads[kind].get(key)) for key in keys)] for kind in PERSONAL_HEADS]
        tables.append(table("personal_heads", kinds, heads["sites"], heads["share"]))
    if heads := run.summary.get("unseen_sites"):
        rows = [["none", percent(heads["global"]), "", ""]]
        for images, scores in heads["adapted"].items():
            shares = scores["accuracy"], scores["from_scratch"], scores["got_worse"]
            rows.append([images, *map(percent, shares)])
        tables.append(table("unseen_sites", rows, heads["sites"], heads["epochs"]))
    return [Section("adaptation", "Heads adapted to a site", tables=tables)] if tables else []


def _warnings(run: Run) -> list[Section]:
    summary, missed = run.summary, []
    for site, absence in (summary.get("sites_left_out") or {}).items():
        missed.append((site, f"left out {absence['times']} ×", absence["reason"]))
    for key, event in (("sites_absent", "absent"), ("sites_without_result", "without the result")):
        missed += [(site, event, reason) for site, reason in (summary.get(key) or {}).items()]
    text = [printable(warning, 400) for warning in summary.get("warnings") or ()]
    if unreadable := summary.get("images_unreadable"):
        text.append(sentence("run", "unreadable_images", unreadable))
    rows = [(printable(site), event, printable(reason, 160)) for site, event, reason in missed]
    tables = [table("sites_that_missed", rows).shortened(where="sites.csv")] if rows else []
    return [Section("warnings", "Worth knowing", text[:30], tables=tables)] if text or rows else []


def _closing(run: Run) -> list[Section]:
    """Return configuration and repetition."""
    backbone, panels = run.summary["backbone"], dict[str, list[str]]()
    fields: Mapping[str, Any] = type(run.config).model_fields
    for name, field in fields.items():
        panels.setdefault(field.json_schema_extra["panel"] or "Run", []).append(name)
    number = sum(changed(run.config, name) for name in fields)
    changes = paragraphs("run", "changed_settings", number, len(fields))
    settings = [_panel(run.config, panel, of_panel) for panel, of_panel in panels.items()]
    code = [f"fedtransfer simulate --config {run.folder}/config.toml", _command(run.config)]
    name, resolution = backbone["name"], backbone["resolution"]
    rows = [("name", printable(name)), ("resolution", pixels(name, resolution))]
    used = table("backbone", [*rows, ("fingerprint", backbone["fingerprint"])])
    return [
        Section("configuration", "Configuration", changes, tables=settings, folded=True),
        Section("repeat", "To repeat it", paragraphs("run", "repeat"), code=code, tables=[used]),
    ]


def _panel(config: RunConfig, panel: str, of_panel: list[str]) -> Table:
    rows, defaults = [], type(config).model_fields
    marked = frozenset(i for i, name in enumerate(of_panel) if changed(config, name))
    for i, name in enumerate(of_panel):
        default = setting(defaults[name].default) if i in marked else ""
        rows.append(("● " * (i in marked) + outside(name), setting(getattr(config, name)), default))
    return Table(panel, ("setting", "value", "default, where it differs"), rows, marked=marked, texts=True)


def setting(value: Any) -> str:
    """Return a setting's value as it is given: ``on`` and ``off``, an empty text as a dash."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else printable(value, 300) if value != "" else "–"


def _command(config: RunConfig) -> str:
    """Return the command that runs these settings, with the options that are not defaults."""
    parts = ["fedtransfer", "simulate"]
    fields: Mapping[str, Any] = type(config).model_fields
    for name, field in fields.items():
        settable = (field.json_schema_extra or {}).get("panel") and name not in ("out", "resume")
        if settable and changed(config, name):
            value = getattr(config, name)
            parts.append(f"--{'no-' * (value is False)}{outside(name)}")
            parts += [] if isinstance(value, bool) else [str(value)]
    return shlex.join(parts)
