"""The programs in examples/, the notebook, and the examples in docstrings run as they are."""

import doctest
import importlib
import re
import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import fedtransfer as ft
from fedtransfer.common.data.feature_table import FeatureTable, feature_table
from fedtransfer.common.data.sources import read_source

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PAGE = EXAMPLES.parent / "docs" / "python.md"
MANUAL = EXAMPLES.parent / "docs" / "manual.md"


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
    """To rounding: the twin does the same operations, and native code adds in another order."""
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


def exporter(library: str) -> str:
    """Return the manual's program that exports features by a library."""
    blocks = re.findall(r"^```python\n(.*?)^```$", MANUAL.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    [program] = [block for block in blocks if f"import {library}\n" in block]
    return program


def export(program: str, monkeypatch: pytest.MonkeyPatch, *words: object) -> FeatureTable:
    """Run a program of the manual on its arguments; return the file that it writes."""
    monkeypatch.setattr("sys.argv", ["export.py", *map(str, words)])
    exec(compile(program, str(MANUAL), "exec"), {})
    return feature_table(str(words[1]))


@pytest.mark.run
def test_the_exporter_for_keras(folder_of_classes, tmp_path: Path, monkeypatch) -> None:
    """Its file is data of a run; the same network has the same hash, another one has another."""
    import keras

    for seed in range(2):
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255)]
        layers += [keras.layers.Conv2D(5, 3), keras.layers.GlobalAveragePooling2D()]
        keras.Sequential(layers).save(tmp_path / f"net{seed}.keras")
    folder = folder_of_classes(20)
    program = exporter("keras")
    tables = [
        export(program, monkeypatch, folder, tmp_path / f"{i}.npz", tmp_path / f"net{seed}.keras")
        for i, seed in enumerate((0, 0, 1))
    ]
    one, same, other = (table.card for table in tables)
    assert one == same
    assert one.sha256 != other.sha256
    assert (one.name, one.width, len(tables[0])) == ("net0", 5, 60)
    images = read_source(tmp_path / "0.npz").images
    assert images[0].path.endswith("#id=blue/0.png")
    assert images[0].label == "blue"
    run = ft.simulate(data=tmp_path / "0.npz", sites=2, rounds=3, out=tmp_path / "run", baselines=False)
    assert run.config.backbone == one.backbone
    assert run.predict(tmp_path / "0.npz").shape == (60, 3)


@pytest.mark.run
def test_the_exporter_for_timm(folder_of_classes, tmp_path: Path, monkeypatch) -> None:
    """It runs where timm is; its weights are drawn, since pretrained ones are a download."""
    program = exporter("timm")
    compile(program, str(MANUAL), "exec")
    pytest.importorskip("timm")
    assert "pretrained=True" in program
    program = program.replace("pretrained=True", "pretrained=False")
    table = export(program, monkeypatch, folder_of_classes(2), tmp_path / "f.npz", "resnet10t")
    assert (table.card.name, table.card.width, len(table)) == ("resnet10t", 512, 6)


@pytest.mark.run
@pytest.mark.parametrize(
    "module",
    ["fedtransfer", "fedtransfer.api", "fedtransfer.catalogue", "fedtransfer.table", "fedtransfer.run"],
)
def test_examples_in_docstrings(module: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(module)).failed == 0
