"""The report: what runs, benchmarks and audits found, as one HTML file that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path


def write_report(folders: Sequence[Path], out: Path, command: str = "") -> None:
    """Write one self-contained HTML file about run, benchmark and audit folders, told apart by their files.

    Args:
        folders: what to report on; several runs are compared.
        out: the HTML file.
        command: what repeats the report, or what it is about; shown as it is.

    Raises:
        UserError: a folder is none of the three, or cannot be read.
    """
    from fedtransfer.simulations.report.page import write

    write(folders, out, command)
