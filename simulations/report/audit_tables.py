"""All numbers of an audit as tables: a family of attacks each, with guesses next to what was found."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fedtransfer.simulations.report.audit_names import MEMBERSHIP, Value, merged, with_epsilon
from fedtransfer.simulations.report.blocks import NONE, Table, listed, names, printable
from fedtransfer.simulations.report.sentences import sentence

_NUMBER = re.compile(r"\d+(\.\d+)?")
_ROWS = 100
_TOGETHER = ("membership", "one run")  # families in which protections with the same numbers share a row
_Key = tuple[str, str, str, str]  # strategy, ε, images a class, and attack where there are several


def tables(values: Sequence[Value]) -> list[Table]:
    """Lay out each family of attacks: a row a case, a column a measure, intervals in parentheses."""
    families: dict[str, dict[tuple[_Key, str], dict[str, Value]]] = {}
    for value in values:
        family = "membership" if value.measure in MEMBERSHIP else value.attack
        # A bound belongs to the mechanism: one stands for all numbers of images.
        images = "" if family == "one run" else value.images
        key = value.strategy, value.epsilon, images, value.attack if family == "membership" else ""
        case = families.setdefault(family, {}).setdefault((key, value.protection), {})
        case.setdefault(value.measure, value)
    return [_family(name, cases) for name, cases in families.items()]


def _family(name: str, cases: Mapping[tuple[_Key, str], Mapping[str, Value]]) -> Table:
    values, guesses = [value for case in cases.values() for value in case.values()], names("guesses")
    measures = {value.measure: value.name for value in values}
    head, chances = ["strategy", "protection", "images a class", "attack"], []
    for measure, heading in measures.items():
        head += [heading, guesses[measure]] if measure in guesses else [heading]
        by_chance = {value.guess for value in values if value.measure == measure}
        if measure not in guesses and len(by_chance) == 1 and by_chance != {""}:
            chances.append(f"{heading} {by_chance.pop()}")
    cells: dict[tuple[_Key, str], tuple[str, ...]] = {}
    for key, case in cases.items():
        row: tuple[str, ...] = ()
        for measure in measures:
            texts = (case[measure].text, case[measure].guess) if measure in case else ("", "")
            row += texts if measure in guesses else texts[:1]
        cells[key] = *row, _counts(case.values()) or NONE
    alike = [(key, [protection], row) for (key, protection), row in cells.items()]
    body = []
    for (strategy, epsilon, images, attack), protections, row in merged(cells) if name in _TOGETHER else alike:
        protection = with_epsilon(", ".join(protections), epsilon) if any(protections) else ""
        body.append([printable(strategy, 40), protection, images, printable(attack, 40), *row])
    heading, unit = names("families_of_attacks").get(name, printable(name, 40)), names("counted").get(name, "of")
    table = Table(heading, [*head, unit], body).compact(NONE)
    everything = [cell for line in table.rows for cell in line]
    legend = any(" to " in cell for cell in everything), NONE in everything
    note = sentence("audit", "table_note", *legend, chances, _remarks(values))
    return replace(table, note=note).shortened(_ROWS, "table.csv")


def _counts(values: Iterable[Value]) -> str:
    """Return the count behind a row's numbers, or that of each measure if they differ."""
    counts = [f"{int(value.count):,}" for value in values if value.count > 0]
    return " / ".join(counts if len(set(counts)) > 1 else counts[:1])


def _remarks(values: Iterable[Value]) -> list[str]:
    """Return the notes of rows, each once, without notes whose numbers differ between rows."""
    variants: dict[str, dict[str, dict[str, None]]] = {}  # note without its numbers → note → measures
    for value in values:
        if value.note:
            variants.setdefault(_NUMBER.sub("…", value.note), {}).setdefault(value.note, {})[value.name] = None
    noted = {name for same in variants.values() for measures in same.values() for name in measures}
    constant = [pair for same in variants.values() if len(same) == 1 for pair in same.items()]
    remarks = []
    for note, measures in constant[:8]:
        about = "" if set(measures) == noted else f"{listed([*measures])}: "
        remarks.append(f"{about}{printable(note, 240)}.")
    return [remark[0].upper() + remark[1:] for remark in remarks]
