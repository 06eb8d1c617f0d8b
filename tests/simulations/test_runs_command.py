"""``fedtransfer runs``."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedtransfer as ft
from fedtransfer.cli import app
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run, an unfinished one, and a benchmark."""
    for name, settings in {
        "first": {"strategy": "fedprox"},
        "later/second": {"dp": "site", "epsilon": 2.0, "weighting": "uniform"},
    }.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.toml").write_text(RunConfig(data="photos", **settings).to_toml())
    summary = {
        "accuracy": 0.75,
        "macro_recall": 0.5,
        "rounds": 20,
        "sites": 10,
        "classes": ["a", "b"],
        "backbone": {},
    }
    (tmp_path / "first" / "summary.json").write_text(json.dumps(summary))
    columns = "round,attempt,phase,status,accuracy,loss,bytes_down_per_site,bytes_up_per_site"
    (tmp_path / "first" / "history.csv").write_text(
        f"{columns}\n1,1,train,ok,0.1,2,1000,3000\n2,1,score,ok,0.75,1,9,9\n"
    )
    (tmp_path / "benchmark" / "runs" / "x").mkdir(parents=True)
    (tmp_path / "benchmark" / "benchmark.json").write_text("{}")
    return tmp_path


def test_runs_are_listed_with_what_came_of_them(folder: Path) -> None:
    done = CliRunner().invoke(app, ["runs", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    first, second = sorted(json.loads(done.stdout), key=lambda row: row["folder"])
    assert first | {"when": ""} == {
        "folder": str(folder / "first"), "data": "photos", "strategy": "fedprox", "rounds": 20, "sites": 10,
        "accuracy": 0.75, "balanced_accuracy": 0.5, "bytes": 4000.0, "epsilon": None, "when": "",
        "finished": True,
    }  # fmt: skip
    assert (second["finished"], second["accuracy"], second["rounds"]) == (False, None, 100)
    table = CliRunner().invoke(app, ["runs", str(folder)]).stdout
    assert "75.0 %" in table
    assert "unfinished" in table
    assert "4 KB" in table


def test_the_same_from_python(folder: Path) -> None:
    table = ft.runs(folder)
    assert sorted(table["strategy"].tolist()) == ["fedavg", "fedprox"]
    with pytest.raises(UserError, match=r"no run in it; make one with ft\.simulate"):
        ft.runs(folder / "benchmark")


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["runs", str(tmp_path / "nothing")])
    assert "no such folder; expected one with run folders in it" in str(done.exception)
