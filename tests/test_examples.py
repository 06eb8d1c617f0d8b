"""The programs in examples/, the notebook, and the examples in docstrings run as they are."""

import doctest
import importlib
import re
import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PAGE = EXAMPLES.parent / "docs" / "python.md"


def output_of(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.chdir(folder)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.run
def test_first_federation(tmp_path: Path, capsys, monkeypatch) -> None:
    output = output_of("first_federation", tmp_path, capsys, monkeypatch)
    assert output.startswith("federated ")
    assert "site-4: " in output
    assert Path(output.splitlines()[-1].removeprefix("report: ")).is_file()


@pytest.mark.run
def test_bring_your_arrays(tmp_path: Path, capsys, monkeypatch) -> None:
    output = output_of("bring_your_arrays", tmp_path, capsys, monkeypatch)
    assert "at north, south" in output
    chosen, truth = output.splitlines()[2].removeprefix("three images: ").split("; truth: ")
    assert chosen == truth
    assert output.splitlines()[3].startswith("with two features: ")


@pytest.mark.run
def test_readable_fedavg_gives_the_same_head(tmp_path: Path, capsys, monkeypatch) -> None:
    """To the last bit: the twin does the same operations in the same order."""
    assert output_of("readable_fedavg", tmp_path, capsys, monkeypatch) == "the same head: True\n"


@pytest.mark.run
def test_better_heads(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(EXAMPLES / "better_heads.py"))
    example["print_scores"](rounds=2)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(example["RECIPES"]) == len({*lines})
    assert all(re.fullmatch(r".+\d\.\d% +\d+\.\d%", line) for line in lines)


@pytest.mark.process
@pytest.mark.full
def test_the_notebook_executes_and_stores_no_output(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    [shown] = notebook.cells[3].outputs[-1:]
    assert "<svg" in shown.data["text/html"]


@pytest.mark.run
@pytest.mark.full
def test_the_page_about_python_runs_from_top_to_bottom(
    folder_of_classes, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of_classes(24, "my-images")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["run"].summary["rounds"] == 6


@pytest.mark.run
@pytest.mark.parametrize(
    "module",
    ["fedtransfer", "fedtransfer.api", "fedtransfer.catalogue", "fedtransfer.table", "fedtransfer.run"],
)
def test_examples_in_docstrings(module: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(module)).failed == 0
