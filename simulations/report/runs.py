"""The sections about one run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.config import RunConfig
from common.settings.option import changed, outside
from common.sources import natural_order
from simulations.report import adaptation
from simulations.report.blocks import Figure, Section, Table, counted, number, percent, power, shown, span
from simulations.report.charts import Axis, Dot, Level, Series, dot_chart, line_chart, matrix_chart
from simulations.report.reading import Run, real
from simulations.report.words import options

ACCURACY = Axis("accuracy", kind="percent")
ROUNDS = Axis("rounds of training", whole=True)
BYTES = Axis("bytes to and from a site", log=True, kind="bytes")
_WORST = 20  # confusions told


def sections(run: Run) -> list[Section]:
    """Return what there is to show of a run; what its folder does not hold is left out."""
    rounds, sites, matrix = by_round(run), _by_site(run), run.summary.get("confusion_matrix")
    figures = {
        ("accuracy", "Accuracy by round"): rounds,
        ("sites", "Accuracy by site"): [sites] if sites else [],
        ("partition", "Who has what"): [_partition(run)] if run.images[0] else [],
        ("confusion", "What is taken for what"): [_confusion(run, np.array(matrix))] if matrix else [],
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
            ("From the run folder's own settings, bit for bit from the same feature store:",),
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
    dots = [Dot(site, (accuracy[site],)) for site in sorted(accuracy, key=lambda site: -accuracy[site])]
    told, own = [], run.summary.get("baselines_on_own_test_images") or {}
    for key, name in (("pooled", "all images in one place, mean"), ("local_mean", "each site alone, mean")):
        if own.get(key) is not None:
            told.append(Level(name, own[key]))
    values = np.array([*accuracy.values()])
    description = (
        f"{counted(len(dots), 'site')}, best first. Accuracy on a site's own test images is from {percent(values.min())} "
        f"({shown(dots[-1].name, 30)}) to {percent(values.max())} ({shown(dots[0].name, 30)}), median "
        f"{percent(float(np.median(values)))}."
    )
    axis = Axis("accuracy on the site's own test images", kind="percent")
    return dot_chart("Accuracy by site", description, dots, ("federation's head",), axis, told, "site", "summary.json")


def _partition(run: Run) -> Figure:
    images, with_test = run.images
    sites, classes = list(natural_order(images)), list(run.classes)
    counts = np.array([[images[site].get(name, 0) for site in sites] for name in classes])
    totals, held = counts.sum(0), (counts > 0).sum(0)
    what = "Images" if with_test else "Images for training and validation"
    images_of_one, classes_of_one = (
        span(f"{totals.min():,}", f"{totals.max():,}"),
        span(str(held.min()), str(held.max())),
    )
    most = f"{shown(classes[int(counts.max(1).argmax())], 30)} at {shown(sites[int(counts.max(0).argmax())], 30)}"
    description = (
        f"{counted(len(classes), 'class', 'classes')} by {counted(len(sites), 'site')}. A site has {images_of_one} images "
        "of "
        f"{classes_of_one} of the classes. The largest number, {counts.max():,}, is {most}."
    )
    rows = tuple((shown(site), f"{totals[i]:,}", *(f"{n:,}" for n in counts[:, i])) for i, site in enumerate(sites))
    columns = ("site", "all", *(shown(name, 30) for name in classes))
    note = ""
    if len(classes) > 30:  # a table for reading: how many images and classes a site has, and its most frequent ones
        columns = ("site", "all", "classes", "most frequent")
        tops = [np.argsort(-counts[:, i], kind="stable")[:3] for i in range(len(sites))]
        rows = tuple(
            (
                shown(site),
                f"{totals[i]:,}",
                str((counts[:, i] > 0).sum()),
                ", ".join(f"{shown(classes[c], 30)} {counts[c, i]:,}" for c in tops[i] if counts[c, i]),
            )
            for i, site in enumerate(sites)
        )
        note = f"The three most frequent of {len(classes)} classes are named."
    table = Table(f"{what}, by site and class", columns, rows, note).shortened(where="sites/NAME/images.csv")
    return matrix_chart(
        f"{what}, by site and class", description, counts, classes, sites, ("site", "class"), table, by_count=True
    )


def _confusion(run: Run, matrix: np.ndarray[Any, Any]) -> Figure:
    classes, images = run.classes, matrix.sum(1)
    right = np.diag(matrix) / np.maximum(images, 1)
    wrong = [(int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix) if i != j]
    wrong.sort(reverse=True)
    tested = [i for i in range(len(classes)) if images[i]]
    best, worst = max(tested, key=lambda i: right[i]), min(tested, key=lambda i: right[i])
    description = (
        "A row is a true class, shaded by the share that was taken for each. Recall is highest for "
        f"{shown(classes[best], 30)} ({percent(right[best])}) and lowest for {shown(classes[worst], 30)} "
        f"({percent(right[worst])})."
    )
    if run.summary.get("scored_on") == "public-data":
        description += " On public images at the server."
    if wrong:
        description += (
            f" Most frequent confusion: {wrong[0][0]:,} × {shown(classes[wrong[0][1]], 30)} taken for "
            f"{shown(classes[wrong[0][2]], 30)}."
        )
    rows: tuple[tuple[str, ...], ...]
    if len(classes) <= 30:
        columns = ("true class", *(f"→ {shown(name, 20)}" for name in classes), "recall")
        rows = tuple(
            (shown(name), *(f"{n:,}" for n in matrix[i]), percent(right[i] if images[i] else None))
            for i, name in enumerate(classes)
        )
        note = "A row is a true class, a column what it was taken for."
    else:
        columns = ("true class", "taken for", "images", "share of the class")
        rows = tuple(
            (shown(classes[i]), shown(classes[j]), f"{n:,}", percent(n / images[i])) for n, i, j in wrong[:_WORST]
        )
        note = f"The {len(rows)} most frequent confusions of {len(wrong):,}; the matrix is in summary.json."
    table = Table("True class by predicted class", columns, rows, note)
    return matrix_chart(
        "Confusion matrix", description, matrix, classes, classes, ("predicted class", "true class"), table
    )


def _by_epsilon(run: Run) -> list[Figure]:
    rows = [row for row in run.rounds_of_training if row["accuracy"] and row["epsilon"] and real(row["epsilon"]) > 0]
    if len(rows) < 2:
        return []
    x, y = ([real(row[column]) for row in rows] for column in ("epsilon", "accuracy"))
    axis = Axis(f"ε spent, at δ = {power(run.config.delta)}, unit: one {run.config.dp}", log=True)
    description = f"At ε = {number(x[0])} accuracy is {percent(y[0])}, at ε = {number(x[-1])} it is {percent(y[-1])}."
    return [line_chart("Accuracy against ε spent", description, [Series("federation", x, y)], axis, ACCURACY)]


def _by_bytes(run: Run) -> list[Figure]:
    x, y = run.traffic()
    if len(x) < 2:
        return []
    from common.words import size

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
