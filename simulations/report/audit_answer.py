"""The answer about an audit: facts on attacks, on claims and on the cost of protection."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fedtransfer.simulations.report import audit_best
from fedtransfer.simulations.report.audit_names import (
    Value,
    bounds_of,
    highest,
    images_of,
    protected,
)
from fedtransfer.simulations.report.blocks import Fact, epsilon, printable, span
from fedtransfer.simulations.report.reading import Audit, real
from fedtransfer.simulations.report.sentences import fact, paragraphs, sentence

_ONCE = {  # name in the template → measure
    "tpr": "tpr@1%",
    "auc": "auc",
    "counts": "exact_share",
    "distance": "l1",
    "psnr": "psnr",
    "psnr_of_class_mean": "psnr_of_class_mean",
    "accuracy": "accuracy",
}


class Loss(NamedTuple):
    """What a protection costs a strategy: accuracy with it, without it, and the difference."""

    strategy: str
    images: str
    protection: str
    accuracy: float
    without: float
    loss: float


def title(audit: Audit, name: str) -> str:
    """Name an audit by its run, or by its folder."""
    return sentence("audit", "title", audit.about.get("run"), name, audit.folder.name == "audit")


def answer(audit: Audit) -> tuple[Fact, ...]:
    """Answer: what is learnt, whether the claims hold, and what protection costs."""
    if audit.about.get("run"):
        return _learnt(audit), _claims(audit)
    facts = audit_best.answer(audit), _claims(audit)
    if not (losses := _losses(audit)):
        return facts
    most, least = (choose(losses, key=lambda case: case.loss) for choose in (max, min))
    return *facts, fact("audit", "cost", most, least if least != most else None)


def lead(audit: Audit) -> str:
    """Say what was attacked, and what it promises."""
    about = audit.about
    backbone = about.get("backbone") or {}
    epsilons = sorted({real(row["epsilon"]) for row in audit.table if row["epsilon"]})
    return sentence(
        "audit",
        "lead",
        run=about.get("run"),
        strategies=[printable(name, 40) for name in dict.fromkeys(row["strategy"] for row in audit.table) if name],
        protection=_protection(about.get("config") or {}),
        data=printable(str(about.get("data", "?")).rsplit("/", 1)[-1], 60),
        sites=about.get("sites") or [],
        images=[images for images in dict.fromkeys(map(images_of, audit.table)) if images],
        epsilon=span(epsilon(epsilons[0]), epsilon(epsilons[-1])) if epsilons else "",
        promises=about.get("promises") or [],
        backbone=backbone.get("name", "?"),
        resolution=about.get("resolution") or backbone.get("resolution", "?"),
    )


def how(audit: Audit) -> tuple[str, ...]:
    """Say how an audit was made, and what it cannot show."""
    about, run = audit.about, audit.about.get("run")
    accuracy = highest(audit.table, "accuracy") if run else None
    of_summary = real(run.get("accuracy")) if run else math.nan
    same = accuracy is None or not abs(of_summary - accuracy.value) > 5e-4
    return paragraphs(
        "audit",
        "how",
        run=bool(run),
        accuracy=accuracy,
        of_summary=None if same else of_summary,
        shadows=about.get("shadows") or 0,
        claimed=any(row["epsilon"] for row in audit.table),
        pictures_missing=not audit.pictures and highest(audit.table, "psnr") is not None,
        seconds=real(about.get("seconds") or 0),
    )


def _protection(config: Mapping[str, Any]) -> str:
    private, masks = config.get("dp", "none") != "none", bool(config.get("masks"))
    return protected(("both" if masks else "dp") if private else "masks" if masks else "none")


def _learnt(audit: Audit) -> Fact:
    """Report the highest value of each measure, and cosines, furthest above the guess first."""
    rows = [row for row in audit.table if row["attack"] != "one run"]
    top = {name: highest(rows, measure) for name, measure in _ONCE.items()}
    cosines = [Value.from_row(row) for row in rows if row["measure"].startswith("cosine@") and row["value"]]
    cosines.sort(key=lambda cosine: cosine.value - np.nan_to_num(cosine.by_chance), reverse=True)
    return fact("audit", "learnt", {**top, "cosines": cosines})


def _claims(audit: Audit) -> Fact:
    rows = [row for row in audit.table if row["attack"] == "one run" and row["value"]]
    values = {row["measure"]: Value.from_row(row) for row in rows}
    run, canaries = bool(audit.about.get("run")), ""
    if bound := values.get("epsilon_lower_bound"):
        unclaimed = values.get("right_guesses") if run and not any(row["epsilon"] for row in rows) else None
        at_most = unclaimed is not None and bound.value == values["most_provable"].value
        canaries = "\n\n".join(paragraphs("audit", "on_canaries", run, unclaimed, bound, at_most))
    return fact("audit", "claims", bounds_of(audit), any(row["epsilon"] for row in audit.table), canaries)


def _losses(audit: Audit) -> list[Loss]:
    """Return what each differential privacy costs in accuracy, compared with no protection."""
    accuracy = {
        (row["strategy"], images_of(row), protected(row["protection"], row["epsilon"])): real(row["value"])
        for row in audit.table
        if row["measure"] == "accuracy" and row["value"]
    }
    private = {protected(row["protection"], row["epsilon"]) for row in audit.table if row["epsilon"]}
    cases = [
        (*case, value, accuracy[strategy, images, protected("none")])
        for case, value in accuracy.items()
        for strategy, images, protection in [case]
        if protection in private and (strategy, images, protected("none")) in accuracy
    ]
    return [Loss(*case, case[-1] - case[-2]) for case in cases]
