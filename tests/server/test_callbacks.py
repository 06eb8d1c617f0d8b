"""What looks on at a run: tables, JSON log, TensorBoard, MLflow, and the user's own callbacks."""

import csv
import errno
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pictures import class_folders

from fedtransfer.client.app import app as client_app
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.server.app import make_app
from fedtransfer.server.callbacks import Callback, Round, Start, load_callbacks
from fedtransfer.server.callbacks.tables import HISTORY, Tables
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process

pytestmark = pytest.mark.run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("callbacks") / "images", 0)


@pytest.fixture
def run(data: Path, tmp_path: Path):
    return run_in(tmp_path, data)


def run_in(tmp_path: Path, data: Path):
    def start(*callbacks: Callback, **settings: object) -> Path:
        config = RunConfig(**{"sites": 2, "rounds": 3, "out": str(tmp_path / "run"), **settings})
        sites = [
            SimulatedSite(name, {"data": str(data), "state": str(tmp_path / name)})
            for name in ("anna", "bert")
        ]
        run_in_process(make_app(callbacks), client_app, sites, config.to_flat(), 1)
        return tmp_path / "run"

    return start


class Diary(Callback):
    def __init__(self) -> None:
        self.events: list[str] = []

    def on_start(self, start: Start) -> None:
        self.events.append(f"start {', '.join(start.sites)}")

    def on_round(self, record: Round) -> None:
        self.events.append(f"{record.phase} {record.round}")

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self.events.append(f"end {summary['rounds']}")

    def on_error(self, error: BaseException) -> None:
        self.events.append(f"error {type(error).__name__}")

    def close(self) -> None:
        self.events.append("close")


@dataclass(frozen=True)
class Seen:
    """A run that everything has looked on at."""

    folder: Path
    diary: Diary
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def seen(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder, diary = tmp_path_factory.mktemp("seen"), Diary()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        callbacks = "mlflow" if find_spec("mlflow") else ""
        run = run_in(folder, data)(diary, callbacks=callbacks, log_json=str(folder / "events.jsonl"))
    return Seen(run, diary, [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()])


def test_a_callback_is_told_of_everything_in_order(seen: Seen) -> None:
    rounds = ["train 1", "train 2", "train 3", "score 4"]
    assert seen.diary.events == ["start anna, bert", *rounds, "end 3", "close"]


def test_a_callback_is_told_why_a_run_stops(run) -> None:
    diary = Diary()
    with pytest.raises(UserError, match="2 of 9 sites connected within"):
        run(diary, sites=9, join_timeout=0.1)
    assert diary.events == ["error UserError", "close"]


def test_callbacks_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_callbacks.py").write_text(
        "from fedtransfer.server.callbacks import Callback\n"
        "class Mine(Callback):\n    pass\nclass Other:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    [mine] = load_callbacks(" my_callbacks:Mine ")
    assert type(mine).__name__ == "Mine"
    assert load_callbacks("") == []
    for name, words in (
        ("my_callbacks:Other", "Other is not a fedtransfer.server.callbacks.Callback"),
        ("my_callbacks:Gone", "cannot be made .* module:Class"),
        ("nowhere:It", "cannot be made .*No module named 'nowhere'"),
        ("nonsense", "cannot be made"),
    ):
        with pytest.raises(UserError, match=words):
            load_callbacks(name)


def test_json_log_has_an_event_a_line(seen: Seen) -> None:
    events = seen.events
    assert [event["event"] for event in events] == ["start", "round", "round", "round", "round", "end"]
    assert events[0]["sites"] == ["anna", "bert"]
    assert events[1]["present"] == ["anna", "bert"]
    assert events[1]["round"] == 1
    assert events[-1]["rounds"] == 3


def test_json_log_has_the_error_of_a_run_that_stops(run, seen: Seen, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run(log_json=str(tmp_path / "failed.jsonl"), out=str(seen.folder))
    assert json.loads((tmp_path / "failed.jsonl").read_text())["event"] == "error"


def test_a_json_log_that_cannot_be_written_is_told(run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--log-json .*gone/events.jsonl: No such file"):
        run(log_json=str(tmp_path / "gone" / "events.jsonl"))


def test_mlflow_gets_parameters_scores_and_the_model(seen: Seen) -> None:
    mlflow = pytest.importorskip("mlflow")
    folder = seen.folder
    client = mlflow.MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    [found] = client.search_runs([client.get_experiment_by_name("fedtransfer").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["learning-rate"] == "4.0"
    accuracy = [metric.value for metric in client.get_metric_history(found.info.run_id, "test/accuracy")]
    assert len(accuracy) == 4
    assert (
        found.data.metrics["final/accuracy"] == json.loads((folder / "summary.json").read_text())["accuracy"]
    )
    assert {artifact.path for artifact in client.list_artifacts(found.info.run_id)} == {
        "summary.json", "head.npz", "model.keras",
    }  # fmt: skip


def test_missing_mlflow_is_told_before_the_first_round(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="pip install mlflow-skinny"):
        run(callbacks="mlflow")


def test_tables_of_a_resumed_run_go_on_after_the_checkpoint(tmp_path: Path) -> None:
    good = [str(n) for n in range(len(HISTORY))]
    rows = [[str(n), "1", "train", "ok", *good[4:]] for n in (1, 2, 3)]
    text = "\r\n".join(",".join(row) for row in [HISTORY, *rows]) + "\r\n4,1,tr"  # cut off by a kill
    (tmp_path / "history.csv").write_text(text)
    (tmp_path / "sites.csv").write_text("round,attempt,site,status,examples,accuracy,loss,test_images,")
    start = Start(RunConfig(), tmp_path, (), {}, (), resumed_after=2)
    with pytest.raises(UserError, match=r"sites.csv: .* columns"):
        Tables().on_start(start)
    (tmp_path / "sites.csv").unlink()
    with pytest.raises(UserError, match=r"sites.csv: cannot be read"):
        Tables().on_start(start)
    with (tmp_path / "history.csv").open() as file:
        assert [row[0] for row in csv.reader(file)] == ["round", "1", "2"]
    later = Start(RunConfig(), tmp_path, (), {}, (), resumed_after=7)
    with pytest.raises(UserError, match=r"history.csv: .*round 3, .*round 7"):
        Tables().on_start(later)


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_full_disk_at_a_resumption_loses_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    good = [str(n) for n in range(len(HISTORY))]
    text = "\r\n".join(",".join(row) for row in [HISTORY, ["1", "1", "train", "ok", *good[4:]]]) + "\r\n"
    (tmp_path / "history.csv").write_bytes(text.encode())
    monkeypatch.setattr(os, moment, full)
    with pytest.raises(OSError, match="No space left"):
        Tables().on_start(Start(RunConfig(), tmp_path, (), {}, (), resumed_after=1))
    assert (tmp_path / "history.csv").read_bytes() == text.encode()
