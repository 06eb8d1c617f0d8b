"""``fedtransfer report``: what it writes where, several things on one page, and what it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from report_folders import audit_folder, audit_of_a_run, benchmark_folder, run_folder
from report_pages import text_of
from typer.testing import CliRunner

import fedtransfer.cli
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.report.page import write_report


@pytest.mark.run
def test_runs_benchmarks_and_audits_stand_on_one_page(run: Path, tmp_path: Path, drawn) -> None:
    page = drawn(run, audit_of_a_run(tmp_path / "audit"), benchmark_folder(tmp_path / "bench", ("iid",), 1))
    assert [heading for heading in page.headings if heading.endswith("The answer")] == [
        "plain: The answer",
        "Audit of my-run: The answer",
        "bench: The answer",
    ]
    assert {"part-1-answer", "part-2-answer", "part-3-answer", "part-3-setting-0", "versions"} <= set(
        page.sections
    )
    [links] = page.element.iter("nav")
    assert "bench" in [text_of(name) for name in links.iter("p")]
    assert "bench: " not in text_of(links), "a name stands once, over the links to what is about it"


def _nothing(folder: Path) -> None:
    folder.mkdir()


def _unfinished(folder: Path) -> None:
    run_folder(folder)
    (folder / "summary.json").unlink()


def _unfinished_benchmark(folder: Path) -> None:
    benchmark_folder(folder, ("iid",), 1)
    for name in ("benchmark.json", "table.csv", "cells.csv"):
        (folder / name).unlink()


def _cut_off(folder: Path) -> None:
    run_folder(folder)
    (folder / "summary.json").write_text('{"accuracy": 0.', "utf-8")


def _other_columns(folder: Path) -> None:
    run_folder(folder)
    (folder / "history.csv").write_text("a,b\n1,2\n", "utf-8")


def _wrong_pictures(folder: Path) -> None:
    audit_folder(folder)
    (folder / "reconstructions.npz").write_bytes(b"PK")


def _other_cells(folder: Path) -> None:
    benchmark_folder(folder, ("iid",), 1)
    with (folder / "cells.csv").open("a", encoding="utf-8") as file:
        file.write("iid,fedyogi,0,0.5\n")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (_nothing, "expected a run folder"),
        (_unfinished, "not finished"),
        (_unfinished_benchmark, "benchmark that is not finished"),
        (_cut_off, "cannot be read"),
        (_other_columns, "has no column"),
        (_wrong_pictures, "cannot be read"),
        (_other_cells, "cells.csv has runs of 'fedyogi' in 'iid', but table.csv has no such row"),
        (lambda folder: None, "no such folder"),
    ],
)
@pytest.mark.usefixtures("no_drawings")
def test_anything_else_is_refused(made: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    made(tmp_path / "it")
    with pytest.raises(UserError, match=told):
        write_report([tmp_path / "it"], tmp_path / "report.html", "")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.run
@pytest.mark.usefixtures("no_drawings")
def test_the_command_writes_into_the_folder_and_replaces_reports_only(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def report(*arguments: str) -> str:
        result = runner.invoke(fedtransfer.cli.app, ["report", *arguments])
        return result.output if result.exception is None else str(result.exception)

    assert report("run").strip() == "run/report.html"
    assert report("run").strip() == "run/report.html", "a report is replaced"
    (folder / "report.html").write_text("mine", "utf-8")
    assert "--force" in report("run")
    assert (folder / "report.html").read_text("utf-8") == "mine"
    assert report("run", "--force").strip() == "run/report.html"
    shutil.copytree(folder, tmp_path / "other")
    assert report("run", "other").strip() == "report.html"
    assert "fedtransfer report run other" in (tmp_path / "report.html").read_text("utf-8")
    assert "is a folder" in report("run", "--out", str(tmp_path))
