"""Approved texts: what pages of the report say, line by line, for a person to read and approve.

    .venv/bin/python tests/approved/update.py

writes them again. What git then shows as changed is what a reader of the pages will see changed.
Paths, versions, the number of settings and rows of long tables are left out, so any machine
writes the same text.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree.ElementTree import Element

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:1] = [str(HERE.parent), str(HERE.parents[1])]

from report_folders import audit_folder, audit_of_a_run, benchmark_folder, run_folder  # noqa: E402
from report_pages import Page, lines, text_of, without_drawings, written  # noqa: E402

COMMAND = ".venv/bin/python tests/approved/update.py"
FOLDERS: dict[str, Callable[[Path], Path]] = {
    "run": lambda home: run_folder(home / "plain", learning_rate=2.5),
    "benchmark": lambda home: benchmark_folder(home / "bench"),
    "audit": lambda home: audit_folder(home / "audit"),
    "private-run": lambda home: run_folder(
        home / "private", privacy={}, dp="image", epsilon=2.0, weighting="uniform"
    ),
    "audit-of-a-run": lambda home: audit_of_a_run(home / "my-run" / "audit"),
}
_RUN = {"versions": "Python", "configuration": "●"}
SHORTENED = {"run": _RUN, "private-run": _RUN}  # sections, and how the rows begin that are left


def file_of(kind: str) -> Path:
    """Return the file of the approved text of a page."""
    return HERE / f"report-{kind}.txt"


def page_text(kind: str, source: str, folder: Path) -> str:
    """Return the text of a page about a folder as any machine would write it."""
    page = Page(source)
    for key, start in SHORTENED.get(kind, {"versions": "Python"}).items():
        for body in page.sections[key].element.iter("tbody"):
            _shorten(body, start)
    text = "\n".join(lines(page.body)).replace(str(folder), "FOLDER").strip()
    text = re.sub(r"settings of \d+ differ", "settings of … differ", text)
    return re.sub(r"\| Python \| .* \|", "| Python | … |", text) + "\n"


def _shorten(body: Element, start: str) -> None:
    for row in list(body):
        if not text_of(row[0]).startswith(start):
            body.remove(row)


def main() -> None:
    """Make the pages and write their texts."""
    with TemporaryDirectory() as home, without_drawings():
        for kind, make in FOLDERS.items():
            folder = make(Path(home).resolve() / kind)
            text = page_text(kind, written([folder], Path(home) / "report.html").source, folder)
            if not file_of(kind).exists() or file_of(kind).read_text("utf-8") != text:
                file_of(kind).write_text(text, "utf-8")
                print(f"{file_of(kind)}: written; read its difference before you commit it")


if __name__ == "__main__":
    main()
