"""All numbers of an audit as tables: a family of attacks each, with guesses next to what was found."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from fedtransfer.simulations.report.audit_names import (
    CHANCE,
    MEASURES,
    MEMBERSHIP,
    Value,
    images_of,
    merged,
    with_epsilon,
)
from fedtransfer.simulations.report.blocks import NONE, Table, listed, printable
from fedtransfer.simulations.report.reading import Audit, Row, real
from fedtransfer.simulations.report.sentences import sentence

_FAMILIES = {  # attack or family → its heading, and what its numbers are counts of
    "utility": ("Accuracy of the heads", "test images"),
    "labels": ("Label counts, as the server reads them off", "sites"),
    "features": ("Features of classes, as the server reads them off", "classes at sites"),
    "means": ("Features of single images, by the sums of one-shot heads", "sites"),
    "gram": ("Features of single images, by the Gram matrices of Fed3R", "sites"),
    "images": ("Images, rebuilt from the features of classes of one image", "images"),
    "membership": ("Membership, by the head that comes out", "answers on non-members"),
    "one run": ("Bounds of ε, from one run on canaries", "guesses"),
}
_NUMBER = re.compile(r"\d+(\.\d+)?")
_ROWS = 100

Key = tuple[str, str, str, str]  # strategy, ε, images a class, and attack where there are several


def tables(audit: Audit) -> list[Table]:
    """Lay out each family of attacks: a row a case, a column a measure, intervals in parentheses."""
    families: dict[str, dict[tuple[Key, str], dict[str, Row]]] = {}
    for row in audit.table:
        family = "membership" if row["measure"] in MEMBERSHIP else row["attack"]
        # A bound belongs to the mechanism: one stands for all numbers of images.
        images = "" if family == "one run" else images_of(row)
        key = row["strategy"], row["epsilon"], images, row["attack"] if family == "membership" else ""
        rows = families.setdefault(family, {}).setdefault((key, row["protection"]), {})
        rows.setdefault(row["measure"], row)
    return [_family(name, cases) for name, cases in families.items()]


def _family(name: str, cases: Mapping[tuple[Key, str], Mapping[str, Row]]) -> Table:
    heading, unit = _FAMILIES.get(name, (printable(name, 40), "of"))
    rows = [row for group in cases.values() for row in group.values()]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    chances = {
        measure: {Value.from_row(row).guess for row in rows if row["measure"] == measure} for measure in measures
    }
    with_guess = {
        measure for measure in measures if measure in CHANCE and chances[measure] != {""}
    }  # others: in the note
    cells = {
        case: (*_cells(group, measures, with_guess), _counts(group.values()) or NONE) for case, group in cases.items()
    }
    together = name in ("membership", "one run")
    merged_cells = (
        merged(cells) if together else [(key, (protection,), row) for (key, protection), row in cells.items()]
    )
    body = [
        (
            printable(strategy, 40),
            with_epsilon(", ".join(protections), epsilon) if any(protections) else "",
            images,
            printable(attack, 40),
            *row,
        )
        for (strategy, epsilon, images, attack), protections, row in merged_cells
    ]
    head = ["strategy", "protection", "images a class", "attack"]
    for measure in measures:
        head += [MEASURES.get(measure, printable(measure, 40))]
        head += [CHANCE[measure]] if measure in with_guess else []
    note = sentence("audit", "table_note", *_legend(body), _chances(chances), _remarks(rows))
    return Table(heading, (*head, unit), tuple(body), note).compact(NONE).shortened(_ROWS, "table.csv")


def _cells(rows: Mapping[str, Row], measures: Sequence[str], with_guess: Collection[str]) -> Iterator[str]:
    for measure in measures:
        row = rows.get(measure)
        yield Value.from_row(row).text if row else NONE
        if measure in with_guess:
            yield (Value.from_row(row).guess if row else "") or NONE


def _counts(rows: Iterable[Row]) -> str:
    """Return the count behind a row's numbers, or that of each measure if they differ."""
    counts = [f"{int(real(row['count'])):,}" for row in rows if row.get("count") not in ("", "0", None)]
    return " / ".join(counts if len(set(counts)) > 1 else counts[:1])


def _legend(body: Sequence[Sequence[str]]) -> tuple[bool, bool]:
    """Return whether there are intervals, and missing numbers."""
    cells = [cell for row in body for cell in row[4:]]
    return any(" to " in cell for cell in cells), NONE in cells


def _chances(chances: Mapping[str, Collection[str]]) -> list[str]:
    return [
        f"{MEASURES.get(measure, printable(measure, 40))} {next(iter(guesses))}"
        for measure, guesses in chances.items()
        if measure not in CHANCE and len(guesses) == 1 and "" not in guesses
    ]


def _remarks(rows: Iterable[Row]) -> list[str]:
    """Return the notes of rows, each once, without notes whose numbers differ between rows."""
    variants: dict[str, set[str]] = {}
    about: dict[str, list[str]] = {}
    for row in rows:
        if note := row.get("note"):
            variants.setdefault(_NUMBER.sub("…", note), set()).add(note)
            about.setdefault(note, []).append(MEASURES.get(row["measure"], printable(row["measure"], 40)))
    constant = [note for same in variants.values() if len(same) == 1 for note in same]
    measures = {name for names in about.values() for name in names}
    remarks = []
    for note in constant[:8]:
        names = list(dict.fromkeys(about[note]))
        remarks.append(
            f"{printable(note, 240)}." if set(names) == measures else f"{listed(names)}: {printable(note, 240)}."
        )
    return [remark[0].upper() + remark[1:] for remark in remarks]
