"""The sections about an audit: what attacks learn, ROC curves, bounds beside claims, rebuilt images beside their originals."""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import UserError
from simulations.report.audit_words import MEASURES, MEMBERSHIP, bounds_of, case_of, protected, value_of
from simulations.report.blocks import (
    NONE,
    Figure,
    Gallery,
    Picture,
    Section,
    Table,
    listed,
    percent,
    shown,
    span,
)
from simulations.report.charts import Axis, Dot, Series, distinct, dot_chart, line_chart
from simulations.report.reading import Audit, Row, real

_CURVES = 6  # figures of ROC curves, at most, in which every attack is drawn
_NUMBER = re.compile(r"\d+(\.\d+)?")
_COLUMNS = 12  # pictures beside each other
_ALARMS, _FOUND = (
    Axis(label, log=True, kind="percent", low=8e-4, high=1.25) for label in ("false alarms", "members found")
)


def sections(audit: Audit) -> list[Section]:
    """Return what there is to show of an audit."""
    made = []
    if curves := _roc(audit):
        text = (
            "Who was in the training data? A point says how many members an attack finds, at the price of how many false "
            "alarms. On the dotted line it guesses."
        )
        made.append(Section("roc", "Membership: ROC curves", (text,), figures=tuple(curves)))
    made.append(Section("attacks", "All attacks, in numbers", tables=tuple(_attacks(audit))))
    if bounds := bounds_of(audit):
        made.append(Section("bounds", "Bounds from one run beside claims", figures=(_bound_figure(bounds),)))
    if audit.pictures:
        gallery = _gallery(audit)
        text = (
            "Below each original, the mean of its class (which is what a guess by class alone would give) and what the "
            "attack rebuilt from what the server sees."
        )
        made.append(Section("images", "Images rebuilt", (text,), gallery=gallery))
    made += _how(audit)
    return made


def _attacks(audit: Audit) -> list[Table]:
    """Lay out each family of attacks: a row a case and attack, a column a measure, intervals in parentheses."""
    families: dict[str, dict[tuple[str, ...], list[Row]]] = {}
    for row in audit.table:
        family = "Membership" if row["measure"] in MEMBERSHIP else row["attack"].capitalize()
        case = (shown(row["strategy"], 40), protected(row), row.get("images_per_class") or NONE)
        key = (*case, shown(row["attack"], 40)) if family == "Membership" else case
        families.setdefault(family, {}).setdefault(key, []).append(row)
    return [_family(shown(name, 40), cases) for name, cases in families.items()]


def _family(name: str, cases: Mapping[tuple[str, ...], Sequence[Row]]) -> Table:
    measures = list(dict.fromkeys(row["measure"] for rows in cases.values() for row in rows))
    told, remarks = [], dict[str, set[str]]()
    for key, rows in cases.items():
        of = {row["measure"]: row for row in rows}
        counts = sorted({int(real(row["count"])) for row in rows if row.get("count")})
        told.append(
            (
                *key,
                *(value_of(of[measure]) if measure in of else NONE for measure in measures),
                span(f"{counts[0]:,}", f"{counts[-1]:,}") if counts else NONE,
            )
        )
        for row in rows:
            if row.get("note"):
                about = f"{MEASURES.get(row['measure'], row['measure'])}: {row['note']}"
                remarks.setdefault(_NUMBER.sub("…", about), set()).add(about)
    attack = ("attack",) if name == "Membership" else ()
    names = (MEASURES.get(measure, shown(measure, 40)) for measure in measures)
    columns = ("strategy", "protection", "images a class", *attack, *names, "of")
    note = f"In parentheses 95 % intervals; {NONE}: none, or too few to tell."
    for common, all_of_them in [*remarks.items()][:8]:  # what differs in numbers only is said once, without them
        remark = shown(common if len(all_of_them) > 1 else min(all_of_them), 240)
        note += f" {remark[0].upper()}{remark[1:]}."
    return Table(name, columns, tuple(told), note.strip()).shortened(100, "table.csv")


def _roc(audit: Audit) -> list[Figure]:
    """Draw a figure a case with all its attacks; with many cases, a figure a strategy with each case's best attack."""
    curves: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    strategy_of: dict[str, str] = {}
    for row in audit.roc:
        case, key = case_of(row), row["attack"]
        x, y = curves.setdefault(case, {}).setdefault(key, ([], []))
        strategy_of[case] = row["strategy"]
        x.append(real(row["fpr"]))
        y.append(real(row["tpr"]))
    if len(curves) <= _CURVES:
        drawn = {
            case: [Series(name, *_positive(*points)) for name, points in mine.items()] for case, mine in curves.items()
        }
    else:
        drawn = {}
        for case, mine in curves.items():
            name, points = max(mine.items(), key=lambda item: _area(*item[1]))
            drawn.setdefault(strategy_of[case], []).append(
                Series(f"{case.removeprefix(strategy_of[case] + ', ')}: {name}", *_positive(*points))
            )
    figures = []
    for case, lines in drawn.items():
        lines = [line for line in lines if len(line.x) > 1]
        if not lines:
            continue
        series, note = distinct(lines, lambda line: _area(line.x, line.y))
        best = max(lines, key=lambda line: _found(line, 0.01))
        description = (
            f"Logarithmic axes. At 1 % false alarms {shown(best.name, 60)} finds most members: {percent(_found(best, 0.01))}; "
            "guessing would find 1 %."
        )
        figures.append(
            line_chart(
                shown(case, 80),
                description,
                series,
                _ALARMS,
                _FOUND,
                diagonal="guessing",
                note=note,
            )
        )
    return figures


def _positive(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Keep what logarithmic axes can show, from left to right."""
    points = sorted((a, b) for a, b in zip(x, y, strict=True) if a > 0 and b > 0)
    return [a for a, _ in points], [b for _, b in points]


def _area(x: Sequence[float], y: Sequence[float]) -> float:
    points = sorted(zip(x, y, strict=True))
    return float(np.trapezoid([b for _, b in points], [a for a, _ in points]))


def _found(line: Series, alarms: float) -> float:
    return max((y for x, y in zip(line.x, line.y, strict=True) if x <= alarms * 1.0001), default=0.0)


def _bound_figure(bounds: Mapping[str, tuple[float, float]]) -> Figure:
    dots = [Dot(case, pair) for case, pair in bounds.items()]
    above = [case for case, (claimed, bound) in bounds.items() if bound > claimed]
    verdict = (
        f"{listed([shown(case, 60) for case in above])}: the bound is above the claim, which is refuted."
        if above
        else "No bound is above its claim."
    )
    description = (
        "The ε that is claimed, and the lower bound (95 % confidence) that an attack with canaries shows in one run. "
        f"{verdict}"
    )
    return dot_chart(
        "Claimed ε and its lower bound",
        description,
        dots,
        ("claimed ε", "lower bound from one run"),
        Axis("ε", low=0),
        (),
        "mechanism",
        "table.csv",
    )


def _gallery(audit: Audit) -> Gallery:
    try:
        with np.load(audit.pictures, allow_pickle=False) as archive:  # type: ignore[arg-type]
            originals, means, labels, rebuilt, names = (
                archive[key] for key in ("originals", "class_means", "labels", "rebuilt", "names")
            )
        ok = (
            originals.shape == means.shape
            and rebuilt.shape == (len(names), *originals.shape)
            and len(labels) == len(originals)
            and originals.ndim == 4
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{audit.pictures}: cannot be read ({error}); expected originals, class_means, labels, rebuilt and names"
        ) from None
    if not ok:
        raise UserError(
            f"{audit.pictures}: shapes {originals.shape}, {means.shape} and {rebuilt.shape} do not fit together; expected (m, "
            "32, 32, 3) twice and (k, m, 32, 32, 3)"
        )
    shown_labels = [shown(label, 24) for label in labels[:_COLUMNS]]
    rows = [
        ("original", originals),
        ("mean of its class", means),
        *((shown(name, 60), images) for name, images in zip(names, rebuilt, strict=True)),
    ]
    told = tuple(
        (
            name,
            tuple(
                Picture(_data_uri(image), f"{label}: {name}")
                for image, label in zip(images, shown_labels, strict=False)
            ),
        )
        for name, images in rows
    )
    shortened = f" (the first {_COLUMNS} of {len(originals)})" if len(originals) > _COLUMNS else ""
    return Gallery(f"Original images and what was rebuilt of them{shortened}", tuple(shown_labels), told)


def _data_uri(image: Any) -> str:
    from PIL import Image

    file = io.BytesIO()
    pixels = np.clip(np.nan_to_num(np.asarray(image, np.float64)), 0, 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _how(audit: Audit) -> list[Section]:
    about = audit.about
    sections = []
    if isinstance(config := about.get("config"), dict) and config:
        rows = tuple(
            (shown(name), shown(value if not isinstance(value, float) or math.isfinite(value) else "–", 300))
            for name, value in config.items()
        )
        sections.append(
            Section(
                "configuration",
                "Configuration",
                tables=(Table("Settings of the audit", ("setting", "value"), rows, texts=True),),
                folded=True,
            )
        )
    backbone = about.get("backbone") or {}
    table = Table("Backbone", ("", ""), tuple((shown(name), shown(value, 200)) for name, value in backbone.items()))
    if command := about.get("command"):
        sections.append(
            Section("repeat", "To repeat it", code=(shown(command, 2000),), tables=(table,) if backbone else ())
        )
    return sections
