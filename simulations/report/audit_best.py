"""An audit of a plan at a glance, with the fewest images: a row per protection; the short answer."""

from collections.abc import Iterable, Sequence

from fedtransfer.simulations.report.audit_names import MEMBERSHIP, Value, highest, images_of, protected
from fedtransfer.simulations.report.blocks import NONE, Fact, Section, Table, decimals, listed, percent, printable, span
from fedtransfer.simulations.report.blocks import epsilon as epsilon_text
from fedtransfer.simulations.report.reading import Audit, Row, real
from fedtransfer.simulations.report.sentences import fact, sentence

# Questions, each with the measures that answer it and their headings: the first that the audit has is used.
_QUESTIONS = (
    {"exact_share": "label counts that are right"},
    {
        "cosine@1": "features of a class's only image, cosine",
        "cosine@2-5": "features of classes with 2 to 5 images, cosine",
        "cosine@6+": "features of classes with 6 images or more, cosine",
    },
    {"psnr": "images rebuilt, PSNR"},
    {"tpr@1%": "members found at 1\u00a0% false alarms", "auc": "members distinguished from others, AUC"},
)


def answer(audit: Audit) -> Fact:
    """Report how well attacks find members, by ε, and the accuracy of the attacked heads."""
    images, rows = _fewest(audit)
    if not (measure := _answering(rows, _QUESTIONS[-1])):
        return fact("audit", "nothing_learnt")
    by_epsilon: dict[str, list[Row]] = {}
    for row in rows:
        by_epsilon.setdefault(epsilon_text(real(row["epsilon"])) if row["epsilon"] else "", []).append(row)
    levels = [
        {"epsilon": epsilon, "value": _text(top), "best": _most(group, measure), "accuracy": _accuracies(group)}
        for epsilon, group in by_epsilon.items()
        if (top := highest(group, measure))
    ]
    return fact(
        "audit",
        "members_found",
        rate=measure == "tpr@1%",
        images=images,
        levels=levels,
        guess=_guess(rows, measure),
        guessed_accuracy=_guess(rows, "accuracy"),
    )


def glance(audit: Audit) -> list[Section]:
    """Return a section with the best attack under each protection, over strategies, and the guesses."""
    images, rows = _fewest(audit)
    questions = [(measure, question[measure]) for question in _QUESTIONS if (measure := _answering(rows, question))]
    protections: dict[str, list[Row]] = {}
    for row in rows:
        protections.setdefault(protected(row["protection"], row["epsilon"]), []).append(row)
    body = [
        (name, *(_most(group, measure) for measure, _ in questions), _accuracies(group))
        for name, group in protections.items()
    ]
    body.append(("a guess", *(_guess(rows, measure) for measure, _ in questions), _guess(rows, "accuracy")))
    columns = ("", *(heading for _, heading in questions), "accuracy of the heads")
    return [
        Section(
            "glance",
            "At a glance",
            tables=(Table("At a glance", columns, tuple(body), sentence("audit", "glance", images), texts=True),),
        )
    ]


def _fewest(audit: Audit) -> tuple[str, list[Row]]:
    """Return the fewest images per class, and their rows without bounds, which need no images."""
    rows = [row for row in audit.table if row["attack"] != "one run"]
    images = min(map(images_of, rows), key=lambda number: real(number or 0), default="")
    return images, [row for row in rows if images_of(row) == images]


def _answering(rows: Sequence[Row], question: Iterable[str]) -> str:
    return next((measure for measure in question if highest(rows, measure)), "")


def _most(rows: Sequence[Row], measure: str) -> str:
    """Return the highest value, and all strategies that have it."""
    if not (top := highest(rows, measure)):
        return NONE
    scored = [row for row in rows if row["measure"] == measure and row["value"]]
    best = [row for row in scored if _text(Value.from_row(row)) == _text(top)]
    names = [printable(row["strategy"], 40) + (f" by {row['attack']}" if measure in MEMBERSHIP else "") for row in best]
    return f"{_text(top)}, {listed(list(dict.fromkeys(names)))}"


def _accuracies(rows: Iterable[Row]) -> str:
    values = sorted(real(row["value"]) for row in rows if row["measure"] == "accuracy" and row["value"])
    return span(percent(values[0]), percent(values[-1])) if values else NONE


def _guess(rows: Sequence[Row], measure: str) -> str:
    """Return what a guess reaches, from least to most if strategies have different sites."""
    if measure == "psnr":
        guesses = [
            _text(Value.from_row(row)) for row in rows if row["measure"] == "psnr_of_class_mean" and row["value"]
        ]
    else:
        guesses = [guess for row in rows if row["measure"] == measure and (guess := Value.from_row(row).guess)]
    return span(min(guesses), max(guesses)) if guesses else NONE


def _text(value: Value) -> str:
    if value.measure.startswith("psnr"):
        return f"{value.value:.1f} dB"
    as_number = value.measure == "auc" or value.measure.startswith("cosine")
    return decimals(value.value) if as_number else percent(value.value)
