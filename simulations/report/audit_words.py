"""What an audit found, in sentences, and how its attacks and measures are named."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from simulations.report.blocks import NONE, Fact, counted, listed, number, percent, shown, span
from simulations.report.reading import Audit, Row, real

_PROTECTION = {
    "none": "no protection",
    "masks": "masks",
    "dp": "differential privacy",
    "both": "differential privacy and masks",
}
MEMBERSHIP = {"auc", "tpr@1%", "tpr@0.1%"}
_SHARES = {"accuracy", "exact_share", "tpr@1%", "tpr@0.1%"}
MEASURES = {
    "accuracy": "accuracy of the head",
    "inside_span": "share of features in the row space",
    "inside_span_of_others": "the same of another site",
    "exact_share": "counts found exactly",
    "l1": "L1 distance of counts",
    "cosine@1": "cosine, classes of 1 image",
    "cosine@2-5": "cosine, classes of 2 to 5",
    "cosine@6+": "cosine, classes of 6 or more",
    "max_cosine": "highest cosine",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "psnr_of_class_mean": "PSNR of class means, dB",
    "ssim_of_class_mean": "SSIM of class means",
    "auc": "area under the ROC curve",
    "tpr@1%": "found at 1 % false alarms",
    "tpr@0.1%": "found at 0.1 % false alarms",
    "epsilon_lower_bound": "lower bound of ε",
    "claimed": "claimed ε",
}


def facts(audit: Audit) -> tuple[Fact, ...]:
    """Answer: what can be learnt without protection and with it, and whether the claims hold."""
    found: dict[str, list[str]] = {}
    for row in audit.table:
        if row["measure"] not in ("claimed", "epsilon_lower_bound"):
            found.setdefault(protected(row), [])
    for name, sentences in found.items():
        mine = [row for row in audit.table if protected(row) == name and row["value"]]
        sentences += _learnt(mine)
    broken, bounds = [], bounds_of(audit)
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
        runs = _runs(audit)
        cases = f", which stand for {len(bounds)} cases" if len(bounds) > runs else ""
        share = max(bound / claimed for claimed, bound in bounds.values())
        claims = Fact(
            "Do the claims hold?",
            "none refuted",
            (
                f"In {counted(runs, 'audit')} of one run each{cases}, no lower bound of ε (95 % confidence) is above the ε that is "
                f"claimed; the nearest reaches {percent(share)} of it.",
                "That is no proof of the claim: it is what these attacks could show.",
            ),
        )
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
            ("That the audit took on the machine that made it.",),
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


def protected(row: Row) -> str:
    """Name a row's protection, with its ε."""
    name = _PROTECTION.get(row["protection"], row["protection"])
    return f"{name}, ε = {number(real(row['epsilon']))}" if row.get("epsilon") else name


def case_of(row: Row) -> str:
    """Name what a row's attack was on, shortly."""
    epsilon = f", ε = {number(real(row['epsilon']))}" if row.get("epsilon") else ""
    images = f", {row['images_per_class']} a class" if row.get("images_per_class") else ""
    return f"{row['strategy']}, {row['protection']}{epsilon}{images}"


def _learnt(rows: Sequence[Row]) -> list[str]:
    """Say what the attacks under one protection found at most."""
    told = []
    if accuracies := [real(row["value"]) for row in rows if row["measure"] == "accuracy"]:
        told.append(
            f"What it is worth: the head is right on {span(percent(min(accuracies)), percent(max(accuracies)))} of test "
            "images."
        )
    if top := _highest(rows, "exact_share"):
        told.append(
            f"Label counts: {percent(real(top['value']))} of them found exactly ({shown(top['strategy'], 40)})."
        )
    cosines = [row for row in rows if row["measure"].startswith(("cosine@", "max_cosine"))]
    if cosines:
        top = max(cosines, key=lambda row: real(row["value"]))
        told.append(
            f"Features: cosine up to {_decimals(real(top['value']))} between a true feature vector and what is read "
            f"({shown(top['attack'], 40)}, {MEASURES.get(top['measure'], top['measure'])})."
        )
    if top := _highest(rows, "tpr@1%"):
        told.append(
            f"Membership: {shown(top['attack'], 40)} finds {value_of(top)} of the members "
            f"at 1 % false alarms ({shown(top['strategy'], 40)}); guessing finds 1 %."
        )
    elif top := _highest(rows, "auc"):
        told.append(
            f"Membership: {shown(top['attack'], 40)} has an area under the ROC curve of "
            f"{value_of(top)}; guessing has 0.5."
        )
    if top := _highest(rows, "psnr"):
        means = [real(row["value"]) for row in rows if row["measure"] == "psnr_of_class_mean"]
        beside = f"; the mean of the class, without any attack, has {_decimals(max(means))} dB" if means else ""
        told.append(f"Images: rebuilt at {_decimals(real(top['value']))} dB PSNR{beside}.")
    return told


def _headline(audit: Audit, name: str) -> str:
    rows = [row for row in audit.table if protected(row) == name and row["value"]]
    if top := _highest(rows, "tpr@1%"):
        return f"{percent(real(top['value']))} of members"
    if top := _highest(rows, "auc"):
        return f"AUC {number(real(top['value']))}"
    top = _highest(rows, "exact_share")
    return f"{percent(real(top['value']))} of counts" if top else NONE


def value_of(row: Row) -> str:
    """Return what a row measured, with its 95 % interval where it has one."""
    show = percent if row["measure"] in _SHARES else _decimals
    interval = f" ({show(real(row['low']))} to {show(real(row['high']))})" if row.get("low") and row.get("high") else ""
    return show(real(row["value"])) + interval


def _decimals(value: float) -> str:
    return (
        NONE
        if math.isnan(value)
        else number(value)
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )


def _highest(rows: Sequence[Row], measure: str) -> Row | None:
    return max((row for row in rows if row["measure"] == measure), key=lambda row: real(row["value"]), default=None)


def bounds_of(audit: Audit) -> dict[str, tuple[float, float]]:
    """Return case → claimed ε and the lower bound of it."""
    told: dict[str, dict[str, float]] = {}
    for row in audit.table:
        if row["measure"] in ("epsilon_lower_bound", "claimed") and row["value"]:
            told.setdefault(case_of(row), {})[row["measure"]] = real(row["value"])
    return {
        case: (pair["claimed"], pair["epsilon_lower_bound"])
        for case, pair in told.items()
        if len(pair) == 2 and pair["claimed"] > 0
    }


def _runs(audit: Audit) -> int:
    """Count the runs that claims were tested on: one stands for all cases that share its mechanism, such as with masks and without."""
    bounds = [row for row in audit.table if row["measure"] == "epsilon_lower_bound" and row["value"] and row["epsilon"]]
    return len({(row["strategy"], row["epsilon"], row["value"], row.get("note")) for row in bounds})
