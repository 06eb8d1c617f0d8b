"""The sections about an audit: what attacks learn, ROC curves, bounds beside claims, rebuilt images beside their originals."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import UserError
from simulations.report.blocks import (
    NONE,
    Fact,
    Figure,
    Gallery,
    Picture,
    Section,
    Table,
    counted,
    listed,
    number,
    percent,
    shown,
)
from simulations.report.charts import Axis, Dot, Series, distinct, dot_chart, line_chart
from simulations.report.reading import Audit, Row, real

_PROTECTION = {
    "none": "no protection",
    "masks": "masks",
    "dp": "differential privacy",
    "both": "differential privacy and masks",
}
_SHARES = {"exact_share", "tpr@1%", "tpr@0.1%"}
_MEASURES = {
    "exact_share": "counts found exactly", "l1": "L1 distance of counts", "cosine@1": "cosine, classes of 1 image", "cosine@2-5": "cosine, classes of 2 to 5",
    "cosine@6+": "cosine, classes of 6 or more", "max_cosine": "highest cosine", "psnr": "PSNR, dB", "ssim": "SSIM", "psnr_of_class_mean": "PSNR of class means, dB",
    "ssim_of_class_mean": "SSIM of class means", "auc": "area under the ROC curve", "tpr@1%": "found at 1 % false alarms", "tpr@0.1%": "found at 0.1 % false alarms",
    "epsilon_lower_bound": "lower bound of ε", "claimed": "claimed ε",
}  # fmt: skip
_CURVES = 6  # figures of ROC curves, at most, in which every attack is drawn
_COLUMNS = 12  # pictures beside each other
_RATE = {"log": True, "kind": "percent", "low": 8e-4, "high": 1.25}


def facts(audit: Audit) -> tuple[Fact, ...]:
    """Answer: what can be learnt without protection and with it, and whether the claims hold."""
    found: dict[str, list[str]] = {}
    for row in audit.table:
        found.setdefault(_protected(row), [])
    for name, sentences in found.items():
        mine = [row for row in audit.table if _protected(row) == name and row["value"]]
        sentences += _learnt(mine)
    broken, bounds = [], _bounds(audit)
    for name, (claimed, bound) in bounds.items():
        if bound > claimed:
            broken.append(f"{shown(name, 80)}: the bound {number(bound)} is above the claim {number(claimed)}.")
    if broken:
        claims = Fact(
            "Do the claims hold?",
            f"{counted(len(broken), 'claim')} refuted",
            ("With 95 % confidence the mechanism loses more than it claims:", *broken[:8]),
        )
    elif bounds:
        share = max(bound / claimed for claimed, bound in bounds.values())
        claims = Fact("Do the claims hold?", "none refuted", (
            f"In {counted(len(bounds), 'comparison')} no lower bound of ε from one run (95 % confidence) is above the ε that " f"is claimed; the nearest reaches {percent(share)} of it.",
            "That is no proof of the claim: it is what these attacks could show.",
        ))  # fmt: skip
    else:
        claims = Fact(
            "Do the claims hold?",
            "not tested",
            ("The audit has no comparison of a claimed ε with a bound from an attack.",),
        )
    learnt = [
        Fact(
            f"With {name}, what is learnt?" if name != "no protection" else "What is learnt without protection?",
            _headline(audit, name),
            tuple(told) or ("No attack gave a number.",),
        )
        for name, told in found.items()
    ]
    cost = (
        Fact(
            "At what cost?",
            f"{real(audit.about.get('seconds')):,.0f} s",
            (
                "That the audit took on the machine that made it. What protection costs in accuracy is told by a benchmark.",
            ),
        )
        if not isinstance(audit.about.get("seconds"), dict | None)
        else None
    )
    return (*learnt[:5], claims, *([cost] if cost else []))


def lead(audit: Audit) -> str:
    """Say what was attacked."""
    about = audit.about
    backbone: Mapping[str, Any] = about.get("backbone") or {}
    strategies = listed(
        [shown(name, 40) for name in dict.fromkeys(row["strategy"] for row in audit.table if row["strategy"])]
    )
    classes = about.get("classes")
    how_many = len(classes) if isinstance(classes, list) else classes
    told = f", {counted(how_many, 'class', 'classes')}" if isinstance(how_many, int) else ""
    resolution = about.get("resolution") or backbone.get("resolution", "?")
    return (
        f"An audit of {strategies or 'a mechanism'} on {shown(str(about.get('data', '?')).rsplit('/', 1)[-1], 60)}{told}. "
        f"Frozen backbone {shown(backbone.get('name', '?'), 60)} at {resolution} px."
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
    made.append(Section("attacks", "All attacks", tables=(_attacks(audit),)))
    if bounds := _bounds(audit):
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


def _protected(row: Row) -> str:
    name = _PROTECTION.get(row["protection"], row["protection"])
    return f"{name}, ε = {number(real(row['epsilon']))}" if row.get("epsilon") else name


def _case(row: Row) -> str:
    images = f", {row['images_per_class']} images a class" if row.get("images_per_class") else ""
    return f"{row['strategy']}, {_protected(row)}{images}"


def _learnt(rows: Sequence[Row]) -> list[str]:
    """Say what the attacks under one protection found at most."""
    told = []
    if top := _highest(rows, "exact_share"):
        told.append(
            f"Label counts: {percent(real(top['value']))} of them found exactly ({shown(top['strategy'], 40)})."
        )
    cosines = [row for row in rows if row["measure"].startswith(("cosine@", "max_cosine"))]
    if cosines:
        top = max(cosines, key=lambda row: real(row["value"]))
        told.append(
            f"Features: cosine up to {number(real(top['value']))} between a true feature vector and what is read "
            f"({shown(top['attack'], 40)}, {_MEASURES.get(top['measure'], top['measure'])})."
        )
    if top := _highest(rows, "tpr@1%"):
        told.append(
            f"Membership: {shown(top['attack'], 40)} finds {percent(real(top['value']))}{_interval(top, True)} of the members "
            f"at 1 % false alarms ({shown(top['strategy'], 40)}); guessing finds 1 %."
        )
    elif top := _highest(rows, "auc"):
        told.append(
            f"Membership: {shown(top['attack'], 40)} has an area under the ROC curve of "
            f"{number(real(top['value']))}{_interval(top, False)}; guessing has 0.5."
        )
    if top := _highest(rows, "psnr"):
        means = [real(row["value"]) for row in rows if row["measure"] == "psnr_of_class_mean"]
        beside = f"; the mean of the class, without any attack, has {number(max(means))} dB" if means else ""
        told.append(f"Images: rebuilt at {number(real(top['value']))} dB PSNR{beside}.")
    return told


def _headline(audit: Audit, name: str) -> str:
    rows = [row for row in audit.table if _protected(row) == name and row["value"]]
    if top := _highest(rows, "tpr@1%"):
        return f"{percent(real(top['value']))} found"
    if top := _highest(rows, "auc"):
        return f"AUC {number(real(top['value']))}"
    top = _highest(rows, "exact_share")
    return f"{percent(real(top['value']))} of counts" if top else NONE


def _highest(rows: Sequence[Row], measure: str) -> Row | None:
    return max((row for row in rows if row["measure"] == measure), key=lambda row: real(row["value"]), default=None)


def _interval(row: Row, share: bool) -> str:
    if not row.get("low") or not row.get("high"):
        return ""
    show = percent if share else number
    return f" (95 % interval {show(real(row['low']))} to {show(real(row['high']))})"


def _attacks(audit: Audit) -> Table:
    rows = []
    for row in audit.table:
        show = percent if row["measure"] in _SHARES else number
        low, high = real(row.get("low")), real(row.get("high"))
        interval = f"{show(low)} to {show(high)}" if row.get("low") and row.get("high") else NONE
        rows.append((
            shown(row["strategy"], 40), _protected(row), row.get("images_per_class") or NONE, shown(row["attack"], 40), _MEASURES.get(row["measure"], shown(row["measure"], 40)),
            show(real(row["value"])), interval, row.get("count") or NONE, shown(row.get("note", ""), 160),
        ))  # fmt: skip
    columns = ("strategy", "protection", "images a class", "attack", "measure", "value", "95 % interval", "of", "note")
    return Table("Attacks", columns, tuple(rows), f"{NONE}: none, or too few to tell.").shortened(200, "table.csv")


def _roc(audit: Audit) -> list[Figure]:
    """Draw a figure a case with all its attacks; with many cases, a figure a strategy with each case's best attack."""
    curves: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    strategy_of: dict[str, str] = {}
    for row in audit.roc:
        case, key = (
            f"{row['strategy']}, {_protected({'epsilon': '', **row})}"
            + (f", {row['images_per_class']} images a class" if row.get("images_per_class") else ""),
            row["attack"],
        )
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
        figures.append(line_chart(
            shown(case, 80), description, series, Axis("false alarms", **_RATE), Axis("members found", **_RATE), diagonal="guessing", note=note,
        ))  # fmt: skip
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


def _bounds(audit: Audit) -> dict[str, tuple[float, float]]:
    """Return case → claimed ε and the lower bound of it."""
    told: dict[str, dict[str, float]] = {}
    for row in audit.table:
        if row["measure"] in ("epsilon_lower_bound", "claimed") and row["value"]:
            told.setdefault(_case(row), {})[row["measure"]] = real(row["value"])
    return {
        case: (pair["claimed"], pair["epsilon_lower_bound"])
        for case, pair in told.items()
        if len(pair) == 2 and pair["claimed"] > 0
    }


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
                tables=(Table("Settings of the audit", ("setting", "value"), rows),),
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
