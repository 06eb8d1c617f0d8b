"""The words of the pages are proven here, and here alone; other tests are about facts."""

from difflib import unified_diff
from pathlib import Path

import pytest
from approved.update import COMMAND, FOLDERS, file_of, page_text
from report_pages import without_drawings, written

MADE = {"run": "run", "benchmark": "bench", "audit": "audit"}  # page → the fixture that has it


@pytest.mark.parametrize("kind", FOLDERS)
def test_pages_say_what_was_approved(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if name := MADE.get(kind):
        folder: Path = request.getfixturevalue(name)
        page = request.getfixturevalue(f"{name}_page")
    else:
        folder = FOLDERS[kind](tmp_path.resolve())
        with without_drawings():
            page = written([folder], tmp_path / "report.html")
    text = page_text(kind, page.source, folder)
    approved = file_of(kind)
    difference = unified_diff(
        approved.read_text("utf-8").splitlines(),
        text.splitlines(),
        approved.name,
        "the page now",
        lineterm="",
        n=1,
    )
    if text != approved.read_text("utf-8"):
        pytest.fail("\n".join([*difference, "", f"If this is better, approve it: {COMMAND}"]), pytrace=False)
