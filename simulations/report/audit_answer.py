"""The answer about an audit: the facts behind its sentences on what is learnt, on claims and on the cost of protection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedtransfer.simulations.report import audit_best
from fedtransfer.simulations.report.audit_names import (
    Bound,
    Value,
    bounds_of,
    highest,
    images_of,
    protected,
)
from fedtransfer.simulations.report.blocks import Fact, epsilon, shown, span
from fedtransfer.simulations.report.reading import Audit, Row, real
from fedtransfer.simulations.report.sentences import fact, paragraphs, sentence

_ONCE = ("tpr@1%", "auc", "exact_share", "l1", "psnr", "psnr_of_class_mean", "accuracy")


@dataclass(frozen=True)
class Learnt:
    """The highest value of each measure; ``cosines``: of features, those most above their guess first."""

    tpr: Value | None
    auc: Value | None
    counts: Value | None
    distance: Value | None
    psnr: Value | None
    psnr_of_class_mean: Value | None
    accuracy: Value | None
    cosines: Sequence[Value]

    @property
    def any(self) -> bool:
        """Whether there is anything to report."""
        return any((self.tpr, self.auc, self.counts, self.cosines, self.psnr, self.accuracy))


@dataclass(frozen=True)
class Claims:
    """Claims of ε and their lower bounds.

    Attributes:
        bounds: each claim once; ``cases``: how many they stand for; ``refuted``: those below their bound.
        share: how near a bound gets to its claim.
        claimed: whether any ε is claimed.
        run: whether the audit is of a single run.
        canaries: whether there are any; ``right``: guesses about them, ``lower_bound``: of ε, and ``at_most``: whether
            it is the most that they can prove; of a run without a claim.
    """

    bounds: Sequence[Bound]
    cases: int
    refuted: Sequence[Bound]
    share: float
    claimed: bool
    run: bool
    canaries: bool
    right: Value | None
    lower_bound: Value | None
    at_most: bool


@dataclass(frozen=True)
class Loss:
    """Accuracy of a strategy under a protection, and without."""

    strategy: str
    images: str
    protection: str
    accuracy: float
    without: float

    @property
    def loss(self) -> float:
        """The difference."""
        return self.without - self.accuracy


@dataclass(frozen=True)
class Lead:
    """What was attacked, and what it promises."""

    run: Mapping[str, Any] | None
    strategies: Sequence[str]
    protection: str
    data: str
    sites: Sequence[int]
    images: Sequence[str]
    epsilon: str
    promises: Sequence[Mapping[str, Any]]
    backbone: str
    resolution: Any


@dataclass(frozen=True)
class How:
    """How an audit was made; ``of_summary``: the accuracy in the run's summary, if it is that of another head."""

    run: bool
    accuracy: Value | None
    of_summary: float | None
    shadows: int
    claimed: bool
    pictures_missing: bool
    seconds: float


def title(audit: Audit, name: str) -> str:
    """Name an audit by its run, or by its folder."""
    return sentence("audit", "title", audit.about.get("run"), name, audit.folder.name == "audit")


def answer(audit: Audit) -> tuple[Fact, ...]:
    """Answer: what is learnt, whether the claims hold, and what protection costs."""
    claims = fact("audit", "claims", _claims(audit))
    if audit.about.get("run"):
        return fact("audit", "learnt", _learnt([row for row in audit.table if row["attack"] != "one run"])), claims
    losses = _losses(audit)
    if not losses:
        return audit_best.answer(audit), claims
    most, least = max(losses, key=lambda case: case.loss), min(losses, key=lambda case: case.loss)
    return audit_best.answer(audit), claims, fact("audit", "cost", most, least if least != most else None)


def lead(audit: Audit) -> str:
    """Say what was attacked, and what it promises."""
    about = audit.about
    backbone = about.get("backbone") or {}
    epsilons = sorted({real(row["epsilon"]) for row in audit.table if row["epsilon"]})
    facts = Lead(
        run=about.get("run"),
        strategies=[shown(name, 40) for name in dict.fromkeys(row["strategy"] for row in audit.table) if name],
        protection=_protection(about.get("config") or {}),
        data=shown(str(about.get("data", "?")).rsplit("/", 1)[-1], 60),
        sites=about.get("sites") or [],
        images=[images for images in dict.fromkeys(map(images_of, audit.table)) if images],
        epsilon=span(epsilon(epsilons[0]), epsilon(epsilons[-1])) if epsilons else "",
        promises=about.get("promises") or [],
        backbone=backbone.get("name", "?"),
        resolution=about.get("resolution") or backbone.get("resolution", "?"),
    )
    return sentence("audit", "lead", facts)


def how(audit: Audit) -> tuple[str, ...]:
    """Say how an audit was made, and what it cannot show."""
    about, run = audit.about, audit.about.get("run")
    accuracy = highest(audit.table, "accuracy") if run else None
    of_summary = real(run.get("accuracy")) if run else None
    same = accuracy is None or of_summary is None or not abs(of_summary - real(accuracy["value"])) > 5e-4
    facts = How(
        run=bool(run),
        accuracy=Value(accuracy) if accuracy else None,
        of_summary=None if same else of_summary,
        shadows=about.get("shadows") or 0,
        claimed=any(row["epsilon"] for row in audit.table),
        pictures_missing=not audit.pictures and highest(audit.table, "psnr") is not None,
        seconds=real(about.get("seconds") or 0),
    )
    return paragraphs("audit", "how", facts)


def _protection(config: Mapping[str, Any]) -> str:
    private, masks = config.get("dp", "none") != "none", bool(config.get("masks"))
    return protected(("both" if masks else "dp") if private else "masks" if masks else "none")


def _learnt(rows: Sequence[Row]) -> Learnt:
    tops = (highest(rows, measure) for measure in _ONCE)
    tpr, auc, counts, distance, psnr, mean, accuracy = (Value(row) if row else None for row in tops)
    features = [Value(row) for row in rows if row["measure"].startswith("cosine@") and row["value"]]
    features.sort(key=lambda value: value.gain, reverse=True)
    return Learnt(tpr, auc, counts, distance, psnr, mean, accuracy, features)


def _claims(audit: Audit) -> Claims:
    bounds = bounds_of(audit)
    by_measure = {row["measure"]: row for row in audit.table if row["attack"] == "one run" and row["value"]}
    bound, right = by_measure.get("epsilon_lower_bound"), by_measure.get("right_guesses")
    run = bool(audit.about.get("run"))
    unclaimed = run and bound is not None and right is not None and not bound["epsilon"]
    return Claims(
        bounds=bounds,
        cases=sum(each.cases for each in bounds),
        refuted=[each for each in bounds if each.bound > each.claimed],
        share=max((each.bound / each.claimed for each in bounds), default=0.0),
        claimed=any(row["epsilon"] for row in audit.table),
        run=run,
        canaries=bound is not None,
        right=Value(right) if unclaimed and right else None,
        lower_bound=Value(bound) if bound else None,
        at_most=bool(unclaimed and bound and bound["value"] == by_measure["most_provable"]["value"]),
    )


def _losses(audit: Audit) -> list[Loss]:
    """Return what each differential privacy costs in accuracy, compared with no protection."""
    accuracy = {
        (row["strategy"], images_of(row), protected(row["protection"], row["epsilon"])): real(row["value"])
        for row in audit.table
        if row["measure"] == "accuracy" and row["value"]
    }
    private = {protected(row["protection"], row["epsilon"]) for row in audit.table if row["epsilon"]}
    return [
        Loss(strategy, images, protection, value, accuracy[strategy, images, protected("none")])
        for (strategy, images, protection), value in accuracy.items()
        if protection in private and (strategy, images, protected("none")) in accuracy
    ]
