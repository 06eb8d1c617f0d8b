"""What an audit found, in sentences, each number with what a guess comes to beside it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulations.report.audit_names import (
    bounds_of,
    chance_of,
    decimals,
    highest,
    images_of,
    protected,
    value_of,
)
from simulations.report.blocks import NONE, Fact, counted, listed, number, percent, power, shown, span
from simulations.report.blocks import epsilon as epsilon_words
from simulations.report.reading import Audit, Row, real

_COSINES = {"cosine@1": "of a class's only image", "cosine@2-5": "of classes of 2 to 5", "cosine@6+": "of classes of 6"}


def title(audit: Audit, name: str) -> str:
    """Name an audit by the run that it is of, or by its folder."""
    run = audit.about.get("run")
    if not run:
        return f"Audit: {shown(name)}"
    return f"Audit of {shown(run['name'])}" + ("" if audit.folder.name == "audit" else f" ({shown(name)})")


def facts(audit: Audit) -> tuple[Fact, ...]:
    """Answer: what can be learnt without protection and with it, whether the claims hold, and what protection costs."""
    found: dict[str, list[Row]] = {}
    for row in audit.table:
        if row["attack"] != "one run":
            found.setdefault(protected(row["protection"], row["epsilon"]), []).append(row)
    # One measure of features in all answers, so that they can be compared.
    cosine = next((measure for measure in _COSINES if highest(audit.table, measure)), "")
    learnt = [
        Fact(_question(name), _headline(rows), tuple(_learnt(rows, cosine)) or ("No attack gave a number.",))
        for name, rows in found.items()
    ]
    cost = _cost(audit)
    return (*learnt[:5], _claims(audit), *([cost] if cost else []))


def lead(audit: Audit) -> str:
    """Say what was attacked, and what it promises."""
    about = audit.about
    backbone: Mapping[str, Any] = about.get("backbone") or {}
    strategies = listed([shown(each, 40) for each in dict.fromkeys(row["strategy"] for row in audit.table) if each])
    run, images = about.get("run"), [each for each in dict.fromkeys(map(images_of, audit.table)) if each]
    what = (
        f"the run {shown(run['name'])}, {strategies} with {_protection(about)}," if run else strategies or "a mechanism"
    )
    sites = about.get("sites") or []
    where = f" at {span(str(sites[0]), str(sites[-1]))} sites" if sites else ""
    members = f", trained on {listed(images)} images a class" if images else ""
    resolution = about.get("resolution") or backbone.get("resolution", "?")
    return (
        f"An audit of {what} on {shown(str(about.get('data', '?')).rsplit('/', 1)[-1], 60)}{where}{members}. "
        f"{_promise(audit)}Frozen backbone {shown(backbone.get('name', '?'), 60)} at {resolution} px."
    )


def how(audit: Audit) -> Iterator[str]:
    """Say how an audit was made, and what it cannot show."""
    about, accuracy = audit.about, highest(audit.table, "accuracy")
    if (run := about.get("run")) and accuracy:
        told = f"The head that is attacked is that of the run's last round: it is right on {value_of(accuracy)} of test images."
        known = real(run.get("accuracy"))
        if abs(known - real(accuracy["value"])) > 5e-4:
            told += f" The run's summary tells {percent(known)}, of the head that was best on validation images."
        yield told
    yield (
        "The server is curious and reads what each site sends in the first round that it is in; members see the head that comes "
        "out. All attacks are passive. One that fails proves nothing: a better one may not."
    )
    if shadows := about.get("shadows"):
        few = f" More of them, such as the {_FULL} of the preset full, find more." if shadows < _FULL else ""
        yield f"Membership is inferred with {shadows} shadow federations{'' if about.get('run') else ' of each'}.{few}"
    if any(row["epsilon"] for row in audit.table):
        yield "What is under differential privacy is one draw of noise: another audit comes to other numbers."
    if not audit.pictures and highest(audit.table, "psnr"):
        yield "Images were rebuilt and measured; the pictures were not kept."
    if seconds := about.get("seconds"):
        yield f"The audit took {real(seconds):,.0f} s on the machine that made it."


_FULL = 256  # shadows


def _protection(about: Mapping[str, Any]) -> str:
    config = about.get("config") or {}
    private, masks = config.get("dp", "none") != "none", bool(config.get("masks"))
    return protected(("both" if masks else "dp") if private else "masks" if masks else "none")


def _promise(audit: Audit) -> str:
    epsilons = sorted({real(row["epsilon"]) for row in audit.table if row["epsilon"]})
    promises = audit.about.get("promises") or []
    if not epsilons or not promises:
        return ""
    told = "; ".join(
        f"at δ = {power(each['delta'])}, unit one {shown(each['unit'])}, neighbours: {shown(each['neighbours'])}"
        for each in promises
    )
    return f"Differential privacy with ε = {span(epsilon_words(epsilons[0]), epsilon_words(epsilons[-1]))} {told}. "


def _question(name: str) -> str:
    if name.startswith("as it ran"):
        return f"What is learnt from this run, {name}?"
    return "What is learnt without protection?" if name == "no protection" else f"With {name}, what is learnt?"


def _case(row: Row, rows: Sequence[Row]) -> str:
    """Name a row's case in parentheses, where there are several."""
    strategy = row["strategy"] if len({other["strategy"] for other in rows}) > 1 else ""
    told = _named(strategy, images_of(row))
    return f" ({told})" if told else ""


def _named(strategy: str, images: str) -> str:
    return ", ".join(filter(None, (shown(strategy, 40), f"{images} images a class" if images else "")))


def _learnt(rows: Sequence[Row], cosine: str) -> Iterator[str]:
    """Say what the attacks under one protection found at most, and what guesses come to there."""
    if top := highest(rows, "tpr@1%"):
        yield (
            f"Membership: {shown(top['attack'], 40)} finds {value_of(top)} of the members at 1\u00a0% false "
            f"alarms{_case(top, rows)}; guessing finds 1\u00a0%."
        )
    elif top := highest(rows, "auc"):
        yield (
            f"Membership: {shown(top['attack'], 40)} has an area under the ROC curve of {value_of(top)}{_case(top, rows)}; "
            "guessing has 0.5."
        )
    if top := highest(rows, "exact_share"):
        guess = f"; the same number for all would be right for {chance_of(top)}" if chance_of(top) else ""
        yield f"Label counts: {percent(real(top['value']))} of them found exactly{_case(top, rows)}{guess}."
    if top := highest(rows, cosine):
        guess = f"; the mean of public images of the class has {chance_of(top)}" if chance_of(top) else ""
        yield (
            f"Features {_COSINES[cosine]} at a site: read off with a cosine of {decimals(real(top['value']))} to the "
            f"true ones{_case(top, rows)}{guess}."
        )
    if top := highest(rows, "psnr"):
        same = [row for row in rows if (row["strategy"], images_of(row)) == (top["strategy"], images_of(top))]
        mean = highest(same, "psnr_of_class_mean")
        guess = f"; the mean of public images of the class has {decimals(real(mean['value']))} dB" if mean else ""
        yield f"Images: rebuilt at {decimals(real(top['value']))} dB PSNR{_case(top, rows)}{guess}."
    if accuracies := sorted((row for row in rows if row["measure"] == "accuracy"), key=lambda row: real(row["value"])):
        reached = span(*(percent(real(row["value"])) for row in (accuracies[0], accuracies[-1])))
        guess = f"; guessing is right on {chance_of(accuracies[-1])}" if chance_of(accuracies[-1]) else ""
        yield f"What it is worth: the head is right on {reached} of test images{guess}."


def _headline(rows: Sequence[Row]) -> str:
    if top := highest(rows, "tpr@1%"):
        return f"{percent(real(top['value']))} of members"
    if top := highest(rows, "auc"):
        return f"AUC {decimals(real(top['value']))} (guess: 0.5)"
    top = highest(rows, "exact_share")
    return f"{percent(real(top['value']))} of counts" if top else NONE


def _claims(audit: Audit) -> Fact:
    bounds, question = bounds_of(audit), "Do the claims hold?"
    if broken := [bound for bound in bounds if bound.bound > bound.claimed]:
        told = [
            f"{shown(each.name, 80)}: the bound {number(each.bound)} is above the claim {epsilon_words(each.claimed)}."
            for each in broken
        ]
        summary = "With 95 % confidence the mechanism loses more than it claims:"
        return Fact(question, f"{counted(len(broken), 'claim')} refuted", (summary, *told[:8]))
    if not bounds:
        if any(row["epsilon"] for row in audit.table):
            return Fact(
                question, "not tested", ("The audit has no lower bound from an attack beside the ε that is claimed.",)
            )
        return Fact(question, "nothing to test", ("No ε is claimed, so nothing bounds what a better attack may find.",))
    stand_for = sum(bound.cases for bound in bounds)
    cases = f", which stand for {stand_for} cases" if stand_for > len(bounds) else ""
    share = max(bound.bound / bound.claimed for bound in bounds)
    return Fact(
        question,
        "none refuted",
        (
            f"In {counted(len(bounds), 'audit')} of one run each{cases}, no lower bound of ε (95 % confidence) is above the ε "
            f"that is claimed; the nearest reaches {percent(share)} of it.",
            "That is no proof of the claim: it is what these attacks could show.",
        ),
    )


def _cost(audit: Audit) -> Fact | None:
    """Say what protection costs in accuracy; None where there is nothing to compare with."""
    by_case: dict[tuple[str, str], dict[str, float]] = {}
    for row in audit.table:
        if row["measure"] == "accuracy" and row["value"]:
            mine = by_case.setdefault((row["strategy"], images_of(row)), {})
            mine[protected(row["protection"], row["epsilon"])] = real(row["value"])
    bare = protected("none")
    losses = {
        (case, name): mine[bare] - accuracy
        for case, mine in by_case.items()
        if bare in mine
        for name, accuracy in mine.items()
        if name != bare
    }
    if not losses:
        return None
    measured = [row for row in audit.table if row["measure"] == "accuracy" and row["epsilon"]]
    one = len({epsilon_words(real(row["epsilon"])) for row in measured}) < 2
    short = {name: name.split(", ε")[0] if one else name for _, name in losses}
    most = max((real(images) for _, images in by_case if images), default=math.nan)
    told = [
        f"{_named(strategy, images)}: {percent(mine[bare])} without protection, "
        f"{listed([f'{percent(accuracy)} with {short[name]}' for name, accuracy in mine.items() if name != bare])}."
        for (strategy, images), mine in by_case.items()
        if bare in mine and (not images or real(images) == most)
    ]
    case, name = max(losses, key=lambda each: losses[each])
    most_lost = f"{_named(*case)}, under {short[name]}"
    return Fact(
        "What does protection cost?",
        f"up to {max(100 * losses[case, name], 0):.1f} points",
        (
            f"Of accuracy; most is lost by {most_lost}: {percent(by_case[case][name])} in place of {percent(by_case[case][bare])}.",
            *told[:6],
        ),
    )
