"""The report: results of runs, benchmarks and audits in one self-contained HTML file."""

from collections.abc import Sequence
from pathlib import Path

from fedtransfer.common.errors import UserError


def write_report(folders: Sequence[Path], out: Path, command: str = "") -> None:
    """Write one self-contained HTML file about run, benchmark and audit folders, recognised by their files.

    Args:
        folders: what to report on; several runs are compared.
        out: the HTML file.
        command: the command that repeats the report or its subject; printed unchanged.

    Raises:
        UserError: a folder is of no such kind or cannot be read, or the file cannot be written.
    """
    from fedtransfer.simulations.report.page import page_of, rendered
    from fedtransfer.simulations.report.reading import read_folder

    sources = [read_folder(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)]
    html = rendered(page_of(sources, command))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, "utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
