"""What an audit found, in sentences, each number with what a guess comes to beside it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedtransfer.common.support.text import counted
from fedtransfer.simulations.report import audit_best
from fedtransfer.simulations.report.audit_names import (
    bounds_of,
    chance_of,
    decimals,
    highest,
    images_of,
    protected,
    value_of,
)
from fedtransfer.simulations.report.blocks import NONE, Fact, listed, number, percent, power, shown, span
from fedtransfer.simulations.report.blocks import epsilon as epsilon_words
from fedtransfer.simulations.report.reading import Audit, Row, real

_COSINES = {
    "cosine@1": "of a class's only image",
    "cosine@2-5": "of classes with 2 to 5 images",
    "cosine@6+": "of classes with 6 images or more",
}
_GUESS = (
    "The guess is the mean of the sites' own test images of the class, which an outsider does not have: a strong one."
)


def title(audit: Audit, name: str) -> str:
    """Name an audit by the run that it is of, or by its folder."""
    run = audit.about.get("run")
    if not run:
        return f"Audit: {shown(name)}"
    return f"Audit of {shown(run['name'])}" + ("" if audit.folder.name == "audit" else f" ({shown(name)})")


def facts(audit: Audit) -> tuple[Fact, ...]:
    """Answer: what is learnt, whether the claims hold, and what protection costs."""
    if audit.about.get("run"):
        rows = [row for row in audit.table if row["attack"] != "one run"]
        told = tuple(_learnt(rows)) or ("No attack gave a number.",)
        return Fact("What is learnt from this run, as it ran?", _headline(rows), told), _claims(audit)
    cost = _cost(audit)
    return (*audit_best.answer(audit), _claims(audit), *([cost] if cost else []))


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
        few = f" More of them find more: --shadows {_FULL}." if shadows < _FULL else ""
        yield f"Membership is inferred with {shadows} shadow federations{'' if about.get('run') else ' of each'}.{few}"
        if about.get("run"):
            yield "RMIA compares with the sites' own test images, too, which an outsider does not have."
    if any(row["epsilon"] for row in audit.table):
        yield "What is under differential privacy is one draw of noise: another audit comes to other numbers."
    if not audit.pictures and highest(audit.table, "psnr"):
        yield "Images were rebuilt and measured; the pictures were not kept."
    if seconds := about.get("seconds"):
        yield f"The audit took {real(seconds):,.0f} s on the machine that made it."


_FULL = 256  # shadows, as in the preset full


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


def _learnt(rows: Sequence[Row]) -> Iterator[str]:
    """Say what the attacks on a run found, and what guesses come to there."""
    if top := highest(rows, "tpr@1%"):
        yield (
            f"Membership: {shown(top['attack'], 40)} finds {value_of(top)} of the members at 1\u00a0% false alarms; "
            "guessing finds 1\u00a0%."
        )
    elif top := highest(rows, "auc"):
        yield (
            f"Membership: {shown(top['attack'], 40)} has an area under the ROC curve of {value_of(top)}; guessing has 0.5."
        )
    if top := highest(rows, "exact_share"):
        guess = f"; the same number for all would be right for {chance_of(top)}" if chance_of(top) else ""
        told = f"Label counts: {percent(real(top['value']))} of them found exactly{guess}."
        if wrong := highest(rows, "l1"):
            guess = f"; equal counts by {chance_of(wrong)}" if chance_of(wrong) else ""
            told += f" They are off by {value_of(wrong)} of the images{guess}."
        yield told
    if sizes := sorted((row for row in rows if row["measure"] in _COSINES and row["value"]), key=_gain, reverse=True):
        yield " ".join([*map(_cosine, sizes), _GUESS])
    if top := highest(rows, "psnr"):
        mean = highest(rows, "psnr_of_class_mean")
        guess = f"; the mean of public images of the class has {real(mean['value']):.1f} dB" if mean else ""
        yield f"Images: rebuilt at {real(top['value']):.1f} dB PSNR{guess}."
    if top := highest(rows, "accuracy"):
        guess = f"; guessing is right on {chance_of(top)}" if chance_of(top) else ""
        yield f"What it is worth: the head is right on {percent(real(top['value']))} of test images{guess}."


def _gain(row: Row) -> float:
    """Return by how much a cosine exceeds that of the guess."""
    return real(row["value"]) - real(row["by_chance"] or 0)


def _cosine(row: Row) -> str:
    guess = f"; a guess has {chance_of(row)}" if chance_of(row) else ""
    count = int(real(row["count"]))
    return f"Features {_COSINES[row['measure']]} ({count} of them): cosine {decimals(real(row['value']))}{guess}."


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
        unbounded = "No ε is claimed, so nothing bounds what a better attack may find."
        return Fact(question, "nothing to test", (unbounded, *_on_canaries(audit)))
    stand_for = sum(bound.cases for bound in bounds)
    cases = f", which stand for {stand_for} cases" if stand_for > len(bounds) else ""
    share = max(bound.bound / bound.claimed for bound in bounds)
    return Fact(
        question,
        "none refuted",
        (
            f"In {counted(len(bounds), 'audit')} of one run each, on canaries{cases}, no lower bound of ε (95 % confidence) is above the ε "
            f"that is claimed; the nearest reaches {percent(share)} of it.",
            "That is no proof of the claim: it is what these attacks could show.",
            *_on_canaries(audit),
        ),
    )


def _on_canaries(audit: Audit) -> Iterator[str]:
    """Say what canaries are, and of a run that claims nothing what they show."""
    by_measure = {row["measure"]: row for row in audit.table if row["attack"] == "one run" and row["value"]}
    if "epsilon_lower_bound" not in by_measure:
        return
    run = audit.about.get("run")
    bound, right = by_measure["epsilon_lower_bound"], by_measure.get("right_guesses")
    if run and right and not bound["epsilon"]:
        told = f"{percent(real(right['value']))} of {int(real(right['count'])):,} guesses about canaries were right"
        most = ", the most that they can prove" if bound["value"] == by_measure["most_provable"]["value"] else ""
        yield f"{told}: ε is above {decimals(real(bound['value']))}{most}."
    yield (
        "Canaries are made-up features, 2,000 or more in a federation of their own with the mechanism of "
        f"{'this run' if run else 'each strategy'}: the bound tests the mechanism, not {'your' if run else 'the'} images."
    )


def _cost(audit: Audit) -> Fact | None:
    """Say what differential privacy costs in accuracy; None where there is nothing to compare with."""
    by_case: dict[tuple[str, str], dict[str, float]] = {}
    private = {protected(row["protection"], row["epsilon"]) for row in audit.table if row["epsilon"]}
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
        if name in private
    }
    if not losses:
        return None
    most, least = max(losses, key=lambda each: losses[each]), min(losses, key=lambda each: losses[each])
    told = [f"Of accuracy; most is lost by {_lost(*most, by_case, bare)}."]
    if least != most:
        told += [f"Least by {_lost(*least, by_case, bare)}."]
    return Fact("What does protection cost?", f"up to {max(100 * losses[most], 0):.1f} points", tuple(told))


def _lost(case: tuple[str, str], name: str, by_case: Mapping[tuple[str, str], Mapping[str, float]], bare: str) -> str:
    strategy, images = case
    named = f"{shown(strategy, 40)}, {images} images a class" if images else shown(strategy, 40)
    return f"{named}, under {name}: {percent(by_case[case][name])} in place of {percent(by_case[case][bare])}"
