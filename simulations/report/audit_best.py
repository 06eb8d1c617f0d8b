"""An audit of a plan at a glance: a row a protection, a column a question, where images are fewest; and the short answer."""

from collections.abc import Iterable, Sequence

from fedtransfer.simulations.report.audit_names import MEMBERSHIP, chance_of, decimals, highest, images_of, protected
from fedtransfer.simulations.report.blocks import NONE, Fact, Section, Table, listed, percent, shown, span
from fedtransfer.simulations.report.blocks import epsilon as epsilon_words
from fedtransfer.simulations.report.reading import Audit, Row, real

# Questions, each with the measures that answer it and their headings: the first that the audit has is told.
_QUESTIONS = (
    {"exact_share": "label counts that are right"},
    {
        "cosine@1": "features of a class's only image, cosine",
        "cosine@2-5": "features of classes with 2 to 5 images, cosine",
        "cosine@6+": "features of classes with 6 images or more, cosine",
    },
    {"psnr": "images rebuilt, PSNR"},
    {"tpr@1%": "members found at 1\u00a0% false alarms", "auc": "members told from others, AUC"},
)


def answer(audit: Audit) -> list[Fact]:
    """Say how well members are told without differential privacy and with it, and what the attacked heads are worth."""
    images, rows = _fewest(audit)
    if not (measure := _answering(rows, _QUESTIONS[-1])):
        return [Fact("What is learnt?", NONE, ("No attack on members gave a number.",))]
    levels: dict[str, list[Row]] = {}
    for row in rows:
        told = f"at ε\u00a0=\u00a0{epsilon_words(real(row['epsilon']))}" if row["epsilon"] else ""
        levels.setdefault(told, []).append(row)
    found = {level: (_value(top), mine) for level, mine in levels.items() if (top := highest(mine, measure))}
    sentences = [
        f"{f'{level[0].upper()}{level[1:]}' if level else 'Without differential privacy'}: {_most(mine, measure)}. These heads are "
        f"right on {_accuracies(mine)} of test images."
        for level, (_, mine) in found.items()
    ]
    few = f", with {images} images a class" if images else ""
    guess = f"Guessing has {_guess(rows, measure)}, and is right on {_guess(rows, 'accuracy')} of test images."
    return [
        Fact(
            "How many members are found?" if measure == "tpr@1%" else "How well are members told from others?",
            "; ".join(f"{value} {level}".strip() for level, (value, _) in found.items()),
            (f"{_QUESTIONS[-1][measure].capitalize()}{few}.", *sentences, guess),
        )
    ]


def glance(audit: Audit) -> list[Section]:
    """Return a section with what attacks found at most under each protection, over strategies, and what guesses come to."""
    images, rows = _fewest(audit)
    asked = [(measure, question[measure]) for question in _QUESTIONS if (measure := _answering(rows, question))]
    protections: dict[str, list[Row]] = {}
    for row in rows:
        protections.setdefault(protected(row["protection"], row["epsilon"]), []).append(row)
    body = [(name, *(_most(mine, each) for each, _ in asked), _accuracies(mine)) for name, mine in protections.items()]
    body.append(("a guess", *(_guess(rows, measure) for measure, _ in asked), _guess(rows, "accuracy")))
    columns = ("", *(heading for _, heading in asked), "accuracy of the heads")
    note = "The most that any attack found, and on which strategy."
    if images:
        note += f" All with {images} images a class, the fewest of this audit, where attacks show most."
    return [Section("glance", "At a glance", tables=(Table("At a glance", columns, tuple(body), note, texts=True),))]


def _fewest(audit: Audit) -> tuple[str, list[Row]]:
    """Return the fewest images a class, and what was found with them; bounds apart, which are not of these images."""
    found = [row for row in audit.table if row["attack"] != "one run"]
    images = min({images_of(row) for row in found}, key=lambda each: real(each or 0), default="")
    return images, [row for row in found if images_of(row) == images]


def _answering(rows: Sequence[Row], question: Iterable[str]) -> str:
    return next((measure for measure in question if highest(rows, measure)), "")


def _most(rows: Sequence[Row], measure: str) -> str:
    """Tell the highest value, and all strategies that have it."""
    if not (top := highest(rows, measure)):
        return NONE
    best = [row for row in rows if row["measure"] == measure and row["value"] and _value(row) == _value(top)]
    whose = [shown(row["strategy"], 40) + (f" by {row['attack']}" if measure in MEMBERSHIP else "") for row in best]
    return f"{_value(top)}, {listed(list(dict.fromkeys(whose)))}"


def _accuracies(rows: Iterable[Row]) -> str:
    values = sorted(real(row["value"]) for row in rows if row["measure"] == "accuracy" and row["value"])
    return span(percent(values[0]), percent(values[-1])) if values else NONE


def _guess(rows: Sequence[Row], measure: str) -> str:
    """Tell what a guess comes to, at least and at most where strategies have different sites."""
    if measure == "psnr":
        told = [_value(row) for row in rows if row["measure"] == "psnr_of_class_mean" and row["value"]]
    else:
        told = [chance_of(row) for row in rows if row["measure"] == measure and chance_of(row)]
    return span(min(told), max(told)) if told else NONE


def _value(row: Row) -> str:
    value, measure = real(row["value"]), row["measure"]
    if measure.startswith("psnr"):
        return f"{value:.1f} dB"
    return decimals(value) if measure == "auc" or measure.startswith("cosine") else percent(value)
