"""``fedtransfer simulate --resume`` and ``--prepare`` as a user types them, with a real kill -9."""

import csv
import json
import os
import shutil
import signal
import tomllib
from pathlib import Path

import forked
import pytest
import stopping
from pictures import class_folders, picture
from typer.testing import CliRunner
from waiting import patient, wait_until

from fedtransfer.cli import app
from fedtransfer.common.errors import UserError

pytestmark = pytest.mark.run

SETTINGS = ["--sites", "3", "--alpha", "5", "--rounds", "12", "--strategy", "fedadagrad", "--fraction", "0.7",
            "--no-models", "--no-baselines", "--callbacks", "stopping:Hold"]  # fmt: skip


def command(*arguments: str) -> str:
    """Run the command line within this process; return standard error."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stderr


def ended_in_a_round(folder: Path, data: Path, how: signal.Signals) -> tuple[int, str]:
    """Start a run, end it in the middle of its sixth round; return exit status and output."""
    child = forked.start(
        "-m", "fedtransfer", "simulate", "--data", str(data), *SETTINGS, "--out", str(folder),
        output=(log := folder.with_suffix(".log")),
        env={**os.environ, "FEDTRANSFER_HOLD": "1", "PYTHONPATH": str(Path(stopping.__file__).parent)},
    )  # fmt: skip
    wait_until(
        lambda: list((folder / "checkpoints").glob("round-000005*")), "five rounds are done", child.died
    )
    child.send_signal(how)
    status = child.wait(patient(60))
    assert not (folder / "summary.json").exists()
    return status, log.read_text()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("images") / "colours", 0, n=20)


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A run killed with -9 in the middle of its rounds."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    ended_in_a_round(folder, images, signal.SIGKILL)
    return folder


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(killed_once, tmp_path / "killed"))


@pytest.mark.process
def test_a_run_that_a_scheduler_ends_says_how_to_go_on(tmp_path: Path, images: Path) -> None:
    status, said = ended_in_a_round(tmp_path / "ended", images, signal.SIGTERM)
    assert status == 130
    assert f"fedtransfer simulate --resume {tmp_path / 'ended'}" in said.replace("\n", "")
    assert "Traceback" not in said
    assert "Resumed after round 5" in command("simulate", "--resume", str(tmp_path / "ended"))


@pytest.mark.process
def test_a_killed_run_is_resumed_to_the_same_bits(killed: Path, images: Path, tmp_path: Path) -> None:
    command("simulate", "--data", str(images), *SETTINGS, "--out", str(tmp_path / "undisturbed"))
    shutil.copytree(killed, tmp_path / "copy")
    assert "Resumed after round 5" in command("simulate", "--resume", str(killed))
    for name in ("head.npz", "last-head.npz", "sites.csv"):
        assert (killed / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name
    summaries = [
        json.loads((folder / "summary.json").read_text()) for folder in (killed, tmp_path / "undisturbed")
    ]
    for summary in summaries:
        summary.pop("seconds")
        summary.pop("features")
    assert summaries[0] == summaries[1]

    with pytest.raises(UserError, match="more --rounds than 12"):
        command("simulate", "--resume", str(killed))
    command("simulate", "--resume", str(killed), "--rounds", "14")
    with (killed / "history.csv").open() as file:
        rows = [(row["round"], row["phase"]) for row in csv.DictReader(file)]
    assert rows[-3:] == [("13", "train"), ("14", "train"), ("15", "score")]
    assert len(rows) == 15

    new = images / "red" / "new.png"
    picture((0, 0, 0), 1).save(new)
    try:
        with pytest.raises(UserError, match=r"site-\d .*images.csv .*the data have changed"):
            command("simulate", "--resume", str(tmp_path / "copy"))
    finally:
        new.unlink()


@pytest.mark.process
def test_what_cannot_be_resumed_is_refused(killed: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (["--resume", str(tmp_path / "gone")], "no run there"),
        (
            ["--resume", str(killed), "--learning-rate", "2"],
            "learning-rate cannot change .*: baselines, call",
        ),
        (["--resume", str(killed), "--force"], "leave out --force"),
        (["--resume", str(killed), "--preset", "article"], "leave out --preset"),
    ):
        with pytest.raises(UserError, match=words):
            command("simulate", *arguments)
    newest = max((killed / "checkpoints").glob("round-*"))
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.raises(UserError, match=f"{newest.name} is damaged .*round-"):
        command("simulate", "--resume", str(killed))
    newest.unlink()
    config = (killed / "config.toml").read_text()
    (killed / "config.toml").write_text(config.replace("seed = 0", "seed = 1"))
    with pytest.raises(UserError, match=r"other images|seed was 0 and is 1"):
        command("simulate", "--resume", str(killed))


def test_early_stopping_ends_a_run_and_keeps_best_and_last(tmp_path: Path, folder_of_classes) -> None:
    data, out = str(folder_of_classes(20)), tmp_path / "run"
    command(
        "simulate", "--data", data, "--sites", "2", "--alpha", "9", "--rounds", "500", "--learning-rate", "8",
        "--early-stopping", "4", "--out", str(out), "--no-models", "--no-baselines",
    )  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert summary["stopped_early"]
    assert 4 <= summary["rounds"] < 500
    with (out / "history.csv").open() as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    trained = losses[: summary["rounds"]]
    assert min(trained[-4:]) >= min(trained[:-4]), "no improvement in the last four rounds"
    assert losses[summary["best_round"] - 1] == min(losses)
    assert (out / "last-head.npz").exists()


def test_prepare_writes_sites_and_says_how_to_go_on(tmp_path: Path, folder_of_classes) -> None:
    data, folder = str(folder_of_classes(20)), tmp_path / "prepared"
    result = CliRunner().invoke(
        app, ["simulate", "--data", data, "--sites", "3", "--alpha", "5", "--prepare", str(folder)]
    )
    assert result.stdout == (
        f"flwr run . --run-config {folder}/config.toml "
        "--federation-config 'num-supernodes=3 client-resources-num-cpus=1' --stream\n"
    )
    settings = tomllib.loads((folder / "config.toml").read_text())
    assert settings["prepared"] == str(folder)
    assert settings["out"] == str(folder / "run")
    assert sorted(path.parent.name for path in folder.glob("sites/*/images.csv")) == [
        "site-0",
        "site-1",
        "site-2",
    ]
    with pytest.raises(UserError, match="already exists"):
        command("simulate", "--data", data, "--sites", "3", "--prepare", str(folder))
