"""``fedtransfer simulate --resume`` and ``--prepare`` as a user types them, with a real kill -9."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from pictures import picture
from typer.testing import CliRunner

from common.errors import UserError
from fedtransfer import app

pytestmark = pytest.mark.run

SETTINGS = ["--sites", "3", "--alpha", "5", "--rounds", "60", "--strategy", "fedadagrad", "--fraction", "0.7"]


def command(*arguments: str) -> str:
    """Run the command line within this process; return standard error."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stderr


def ended_in_a_round(folder: Path, data: str, how: signal.Signals) -> tuple[int, str]:
    """Start a run, and end it in the middle of its rounds; return its exit status and what it said."""
    arguments = ["simulate", "--data", data, *SETTINGS, "--out", str(folder)]
    child = subprocess.Popen([sys.executable, "-m", "fedtransfer", *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(int(path.name[6:12]) >= 5 for path in (folder / "checkpoints").glob("round-*")):
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.send_signal(how)
    said = child.communicate()[1]
    assert not (folder / "summary.json").exists()
    return child.returncode, said


@pytest.fixture
def killed(tmp_path: Path, folder_of_classes) -> Path:
    """A run killed with -9 in the middle of its rounds."""
    ended_in_a_round(tmp_path / "killed", str(folder_of_classes(20)), signal.SIGKILL)
    return tmp_path / "killed"


def test_a_run_that_a_scheduler_ends_says_how_to_go_on(tmp_path: Path, folder_of_classes) -> None:
    status, said = ended_in_a_round(tmp_path / "ended", str(folder_of_classes(20)), signal.SIGTERM)
    assert status == 130
    assert f"Stopped. To go on: fedtransfer simulate --resume {tmp_path / 'ended'}" in said.replace("\n", "")
    assert "Traceback" not in said
    assert "Resumed after round" in command("simulate", "--resume", str(tmp_path / "ended"))


def test_a_killed_run_is_resumed_to_the_same_bits(killed: Path, tmp_path: Path) -> None:
    command("simulate", "--data", str(tmp_path / "images"), *SETTINGS, "--out", str(tmp_path / "undisturbed"))
    shutil.copytree(killed, tmp_path / "copy")
    said = command("simulate", "--resume", str(killed))
    assert "Resumed after round" in said
    for name in ("head.npz", "last-head.npz", "sites.csv"):
        assert (killed / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (killed, tmp_path / "undisturbed")]
    for summary in summaries:
        summary.pop("seconds")
        summary.pop("features")
    assert summaries[0] == summaries[1]

    with pytest.raises(UserError, match="this run is finished; to go on with it, give more --rounds than 60"):
        command("simulate", "--resume", str(killed))
    command("simulate", "--resume", str(killed), "--rounds", "62")
    with (killed / "history.csv").open() as file:
        rows = [(row["round"], row["phase"]) for row in csv.DictReader(file)]
    assert rows[-3:] == [("61", "train"), ("62", "train"), ("63", "score")]
    assert len(rows) == 63

    picture((0, 0, 0), 1).save(tmp_path / "images" / "red" / "new.png")
    with pytest.raises(
        UserError, match=r"site-\d would get other images than .*images.csv says; the data have changed"
    ):
        command("simulate", "--resume", str(tmp_path / "copy"))


def test_what_cannot_be_resumed_is_refused(killed: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (["--resume", str(tmp_path / "gone")], "no run there; expected a run folder"),
        (
            ["--resume", str(killed), "--learning-rate", "2"],
            "learning-rate cannot change in mid-run; what may: baselines, call",
        ),
        (["--resume", str(killed), "--force"], "takes up a run with its own settings; leave out --force"),
        (["--resume", str(killed), "--preset", "article"], "leave out --preset"),
    ):
        with pytest.raises(UserError, match=words):
            command("simulate", *arguments)
    newest = max((killed / "checkpoints").glob("round-*"))
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.raises(UserError, match=f"{newest.name} is damaged .*the last good one is round-"):
        command("simulate", "--resume", str(killed))
    newest.unlink()
    config = (killed / "config.toml").read_text()
    (killed / "config.toml").write_text(config.replace("seed = 0", "seed = 1"))
    with pytest.raises(UserError, match=r"would get other images|belongs to another run: seed was 0 and is 1"):
        command("simulate", "--resume", str(killed))


def test_early_stopping_ends_a_run_and_keeps_best_and_last(tmp_path: Path, folder_of_classes) -> None:
    data, out = str(folder_of_classes(20)), tmp_path / "run"
    command(
        "simulate", "--data", data, "--sites", "2", "--alpha", "9", "--rounds", "500", "--learning-rate", "8",
        "--early-stopping", "4", "--min-delta", "0.05", "--out", str(out),
    )  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert summary["stopped_early"]
    assert 4 <= summary["rounds"] < 500
    with (out / "history.csv").open() as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    trained = losses[: summary["rounds"]]
    assert min(trained[-4:]) > min(trained[:-4]) - 0.05, "no improvement by 0.05 in the last four rounds"
    assert losses[summary["best_round"] - 1] == min(losses)
    assert (out / "last-head.npz").exists()


def test_prepare_writes_sites_and_says_how_to_go_on(tmp_path: Path, folder_of_classes) -> None:
    data, folder = str(folder_of_classes(20)), tmp_path / "prepared"
    result = CliRunner().invoke(
        app, ["simulate", "--data", data, "--sites", "3", "--alpha", "5", "--prepare", str(folder)]
    )
    assert result.stdout == (
        f"flwr run . --run-config {folder}/config.toml --federation-config 'num-supernodes=3 client-resources-num-cpus=1' --stream\n"
    )
    settings = tomllib.loads((folder / "config.toml").read_text())
    assert settings["prepared"] == str(folder)
    assert settings["out"] == str(folder / "run")
    assert sorted(path.parent.name for path in folder.glob("sites/*/images.csv")) == ["site-0", "site-1", "site-2"]
    with pytest.raises(UserError, match="already exists; choose another"):
        command("simulate", "--data", data, "--sites", "3", "--prepare", str(folder))
