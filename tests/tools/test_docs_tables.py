"""The documentation's tables say what the files say that they are made of."""

from pathlib import Path

import pytest
from docs_tables import pages, rewritten, sources

from fedtransfer.common.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CSV = """method,setting,seeds,accuracy,accuracy_interval,reached,rounds,bytes
a,iid,5,0.5,0.0123,5,7.0,1234567
b,iid,5,0.625,,2,8.4,1000
"""
PAGE = """Text.

<!-- table
csv = "some.csv"
corner = ["method"]
down = ["method"]
{layout}
-->
whatever stood here
<!-- end of table -->

More.
"""
PIVOT = 'across = "setting"\ncell = "{cell}"\nnames = {{iid = "equal"}}'
LEFT_OUT = 'leave-out = ["a"]\nacross = "accuracy_interval"\ncell = "{seeds}"\nnames = {"" = "unknown"}'
EQUAL = ("| method | equal |", "|---|---|")


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_tables_are_those_of_their_files(page: Path) -> None:
    assert rewritten(page) == page.read_text("utf-8"), "run python tools/docs_tables.py"


def test_every_file_of_results_is_in_a_table() -> None:
    """So that no table is written by hand beside one."""
    used = {(page.parent / source).resolve() for page in pages(ROOT) for source in sources(page)}
    assert used == {path.resolve() for path in (ROOT / "docs" / "results").glob("*.csv")}


def page_of(folder: Path, layout: str, csv: str = CSV) -> Path:
    (folder / "some.csv").write_text(csv)
    page = folder / "page.md"
    page.write_text(PAGE.format(layout=layout))
    return page


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        (PIVOT.format(cell="accuracy"), [*EQUAL, "| a | 50.0 ± 1.2 |", "| b | 62.5 |"]),
        (LEFT_OUT, ["| method | unknown |", "|---|---|", "| b | 5 |"]),
        (PIVOT.format(cell="rounds"), [*EQUAL, "| a | 7, 1,235 |", "| b | 8, 1 (2 of 5) |"]),
        (PIVOT.format(cell="{accuracy_interval:2p}"), [*EQUAL, "| a | 1.23 |", "| b | – |"]),
        (
            'leave-out = ["a"]\ncells = {share = "{accuracy:.2f}", of = "{seeds}"}',
            ["| method | share | of |", "|---|---|---|", "| b | 0.62 | 5 |"],
        ),
        (
            'only-named = true\nnames = {b = "B"}\ncells = {of = "{seeds}"}',
            ["| method | of |", "|---|---|", "| B | 5 |"],
        ),
    ],
)  # fmt: skip
def test_a_table_is_made_of_its_file(tmp_path: Path, layout: str, rows: list[str]) -> None:
    page = page_of(tmp_path, layout)
    made = rewritten(page)
    assert made == PAGE.format(layout=layout).replace("whatever stood here", "\n".join(rows))
    page.write_text(made)
    assert rewritten(page) == made


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("cells = 3", r"a table's comment: (?s:.*)cells"),
        ("cells = {x = ", "a table's comment: "),
        ('cells = {x = "{auroc}"}', "some.csv has no column 'auroc'"),
    ],
)
def test_a_table_that_cannot_be_made_says_why(tmp_path: Path, layout: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        rewritten(page_of(tmp_path, layout))
