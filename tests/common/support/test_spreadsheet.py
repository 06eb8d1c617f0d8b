"""Cells that a spreadsheet does not compute."""

import csv
from pathlib import Path

import pytest

from fedtransfer.common.support.spreadsheet import write_csv
from fedtransfer.common.support.text import printable

FORMULAS = ('=HYPERLINK("//evil","x")', "+1+2", "-2+3", "@SUM(A1)", "-x", "=1")
PLAIN = ("north", "", "-0.5", "+3", "-1e-07", "1.25", "-.5", "-inf", "a=b", "'quoted", "–", 3, -0.25, None)


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_is_written_as_a_text(cell: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", ("site",), [[cell]])
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["site"], ["'" + cell]]


def test_a_cell_is_one_line_of_bounded_length(tmp_path: Path) -> None:
    """What a program cannot read back ("field larger than field limit") ended runs."""
    write_csv(tmp_path / "table.csv", ("site", "why"), [["\r=1", "\x1b[2J" * 10**5]])
    with (tmp_path / "table.csv").open(newline="") as file:
        first, second = [*csv.reader(file)][1]
    assert first == r"\r=1"
    assert (second[:7], len(second)) == (r"\x1b[2J", 32_767)


def test_all_else_stays_as_it_is(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", [*map(str, range(len(PLAIN)))], [PLAIN])
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [*csv.reader(file)][1] == ["" if cell is None else str(cell) for cell in PLAIN]


def test_what_is_printed_is_one_line_without_effects() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == r"a\x1b[2Jb\nc\u202ed"
    assert printable("Katze 犬") == "Katze 犬"
    assert printable("x" * 2000, 10) == "x" * 9 + "…"
    assert len(printable("\x1b" * 2000)) == 1000
