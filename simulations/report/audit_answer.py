"""The answer about an audit: what attacks find, whether claims hold, what protection costs."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from fedtransfer.simulations.report.audit_names import (
    MEMBERSHIP,
    Value,
    bounds_of,
    highest,
    measured,
    protection_name,
    values_of,
)
from fedtransfer.simulations.report.blocks import Fact, Section
from fedtransfer.simulations.report.reading import Audit, real
from fedtransfer.simulations.report.sentences import fact, paragraphs, sentence, table
from fedtransfer.simulations.report.texts import NONE, epsilon, listed, names, percent, printable, span

_ONCE = ("tpr@1%", "auc", "exact_share", "l1", "psnr", "psnr_of_class_mean", "accuracy")
_MEMBERS = ("tpr@1%", "auc")
# Questions, each with the measures that answer it: the first that the audit has is used.
_QUESTIONS = (("exact_share",), ("cosine@1", "cosine@2-5", "cosine@6+"), ("psnr",), _MEMBERS)


def answer(audit: Audit) -> list[Fact]:
    """Answer: what is learnt, whether the claims hold, and what protection costs."""
    values = values_of(audit)
    if audit.about.get("run"):
        return [_learnt(values), _claims(audit, values)]
    facts = [_members_found(values), _claims(audit, values)]
    if losses := _losses(values):
        most, least = (choose(losses, key=lambda case: case[1] - case[0].value) for choose in (max, min))
        facts.append(fact("audit", "cost", most, least if least != most else None))
    return facts


def lead(audit: Audit) -> str:
    """Say what was attacked, and what it promises."""
    about, values = audit.about, values_of(audit)
    config, data = about.get("config") or {}, str(about.get("data", "?")).rsplit("/", 1)[-1]
    private, masks = config.get("dp", "none") != "none", bool(config.get("masks"))
    protection = protection_name(("both" if masks else "dp") if private else "masks" if masks else "none")
    strategies = dict.fromkeys(value.strategy for value in values if value.strategy)
    images = dict.fromkeys(value.images for value in values if value.images)
    epsilons = sorted({real(value.epsilon) for value in values if value.epsilon})
    spread = span(epsilon(epsilons[0]), epsilon(epsilons[-1])) if epsilons else ""
    return sentence("audit", "lead", about, strategies, protection, data, images, spread)


def how(audit: Audit) -> Sequence[str]:
    """Say how an audit was made, and what it cannot show."""
    about, run, values = audit.about, audit.about.get("run"), values_of(audit)
    accuracy = highest(values, "accuracy") if run else None
    of_summary = real(run.get("accuracy")) if run else math.nan
    same = accuracy is None or not abs(of_summary - accuracy.value) > 5e-4
    claimed, missing = any(value.epsilon for value in values), not audit.pictures and highest(values, "psnr")
    return paragraphs("audit", "how", about, accuracy, None if same else of_summary, claimed, missing)


def _learnt(values: Sequence[Value]) -> Fact:
    """Report the highest value of each measure, and cosines, furthest above the guess first."""
    attacked = [value for value in values if value.attack != "one run"]
    cosines = [value for value in attacked if value.measure.startswith("cosine@") and value.present]
    cosines.sort(key=lambda cosine: cosine.value - np.nan_to_num(cosine.by_chance), reverse=True)
    return fact("audit", "learnt", {measure: highest(attacked, measure) for measure in _ONCE}, cosines)


def _claims(audit: Audit, values: Sequence[Value]) -> Fact:
    bounds = {value.measure: value for value in values if value.attack == "one run" and value.present}
    run, canaries = bool(audit.about.get("run")), ""
    if bound := bounds.get("epsilon_lower_bound"):
        unclaimed = run and not any(value.epsilon for value in bounds.values())
        right = bounds.get("right_guesses") if unclaimed else None
        at_most = right is not None and bound.value == bounds["most_provable"].value
        canaries = "\n\n".join(paragraphs("audit", "on_canaries", run, right, bound, at_most))
    return fact("audit", "claims", bounds_of(values), any(value.epsilon for value in values), canaries)


def _losses(values: Sequence[Value]) -> list[tuple[Value, float]]:
    """Return accuracies under differential privacy, each with that without any protection."""
    heads = measured(values, "accuracy")
    accuracy = {(value.strategy, value.images, value.protected): value for value in heads}
    private, bare = {value.protected for value in values if value.epsilon}, protection_name("none")
    pairs = [(value, accuracy.get((value.strategy, value.images, bare))) for value in accuracy.values()]
    return [(value, without.value) for value, without in pairs if without and value.protected in private]


def _members_found(values: Sequence[Value]) -> Fact:
    """Report how well attacks find members, by ε, and the accuracy of the attacked heads."""
    images, attacked = _fewest(values)
    if not (measure := _answering(attacked, _MEMBERS)):
        return fact("audit", "nothing_learnt")
    by_epsilon: dict[str, list[Value]] = {}
    for value in attacked:
        by_epsilon.setdefault(epsilon(real(value.epsilon)) if value.epsilon else "", []).append(value)
    levels = [
        {"epsilon": level, "value": top.short, "best": _most(group, measure), "accuracy": _accuracies(group)}
        for level, group in by_epsilon.items()
        if (top := highest(group, measure))
    ]
    guesses = _guess(attacked, measure), _guess(attacked, "accuracy")
    return fact("audit", "members_found", measure == "tpr@1%", images, levels, *guesses)


def glance(audit: Audit) -> Section:
    """Return a section with the best attack under each protection, and the guesses."""
    images, attacked = _fewest(values_of(audit))
    measures = [measure for question in _QUESTIONS if (measure := _answering(attacked, question))]
    protections: dict[str, list[Value]] = {}
    for value in attacked:
        protections.setdefault(value.protected, []).append(value)
    rows = []
    for name, group in protections.items():
        rows.append((name, *(_most(group, measure) for measure in measures), _accuracies(group)))
    rows.append(("a guess", *(_guess(attacked, measure) for measure in [*measures, "accuracy"])))
    headings = [names("questions")[measure] for measure in measures]
    best = table("glance_of_attacks", rows, images, headings, texts=True)
    return Section("glance", "At a glance", tables=[best])


def _fewest(values: Sequence[Value]) -> tuple[str, list[Value]]:
    """Return the fewest images per class, and their values without bounds, which need no images."""
    attacked = [value for value in values if value.attack != "one run"]
    images = min((value.images for value in attacked), key=lambda number: real(number or 0), default="")
    return images, [value for value in attacked if value.images == images]


def _answering(values: Sequence[Value], question: Iterable[str]) -> str:
    return next((measure for measure in question if highest(values, measure)), "")


def _most(values: Sequence[Value], measure: str) -> str:
    """Return the highest value, and all strategies that have it."""
    if not (top := highest(values, measure)):
        return NONE
    best = [value for value in measured(values, measure) if value.short == top.short]
    strategies = [printable(one.strategy, 40) + f" by {one.attack}" * (measure in MEMBERSHIP) for one in best]
    return f"{top.short}, {listed([*dict.fromkeys(strategies)])}"


def _accuracies(values: Iterable[Value]) -> str:
    shares = sorted(value.value for value in measured(values, "accuracy"))
    return span(percent(shares[0]), percent(shares[-1])) if shares else NONE


def _guess(values: Sequence[Value], measure: str) -> str:
    """Return what a guess reaches, from least to most if strategies have different sites."""
    guesses = [value.guess for value in values if value.measure == measure and value.guess]
    if measure == "psnr":
        guesses = [value.short for value in measured(values, "psnr_of_class_mean")]
    return span(min(guesses), max(guesses)) if guesses else NONE
