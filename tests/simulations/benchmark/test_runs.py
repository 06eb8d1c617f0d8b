"""Plans of runs: they go on where they were, however they were stopped; and their tables."""

import csv
import json
import os
import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest
from killed_work import killed_or_not
from typer.testing import CliRunner
from waiting import patient, wait_until

from fedtransfer.cli import app
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.server.run_folder.folder import settings_of
from fedtransfer.simulations.benchmark import PRESETS, pool
from fedtransfer.simulations.benchmark.cells import measure_baselines, run_cell
from fedtransfer.simulations.benchmark.folder import compare, finished, open_folder
from fedtransfer.simulations.benchmark.plans import Cell, Plan, read_plan, with_choices
from fedtransfer.simulations.scoring.estimate import BASELINES

CHOSEN = {"setting": "few", "method": "fedavg", "chosen": {"learning-rate": 4.0}}
ROOT = Path(__file__).resolve().parents[3]
PLAN = """
seeds = [0, 1]
[common]
rounds = 3
min-images = 2
[settings.few]
data = "pictures"
sites = 2
alpha = 100.0
[methods.fedavg]
server-momentum = 0.0
server-learning-rate = 1.0
[methods.robust]
strategy = "median"
[tuning]
seed = 5
[tuning.methods.fedavg]
learning-rate = [0.001, 4.0]
[tuning.methods.robust]
learning-rate = [1.0, 4.0]
[[expected]]
setting = "few"
method = "fedavg"
accuracy = 0.9
source = "a guess"
"""


def plan_file(folder: Path, text: str = PLAN) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def command(plan: Sequence[str], out: Path, images: Path, *more: str) -> list[str]:
    return ["-m", "fedtransfer", "benchmark", *plan, "--out", str(out), "--data", f"pictures={images}",
            "--store", str(out.parent / "store"), "--processes", "2", "--json", *more]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dry-run"], "PLAN.toml and --preset NAME"),
        (["plan.toml", "--preset", "quick"], "got a plan and --preset"),
        (["--preset", "quik"], "--preset: got 'quik'; did you mean 'quick'"),
        (["not-there.toml"], "not-there.toml: No such file"),
        (["plan.toml", "--data", "here"], "--data: got 'here'; expected NAME=PATH"),
    ],
)
def test_what_to_run_is_said_once(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["benchmark", *arguments])
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_teaches_plans(arguments: list[str]) -> None:
    output = CliRunner().invoke(app, ["benchmark", *arguments], env={"COLUMNS": "120"}).output
    help_text = " ".join(output.replace("│", " ").split())  # wherever lines are broken
    presets = (f"{name} (" for name in PRESETS)
    for word in ("benchmark PLAN.toml", "--preset NAME", *presets, "--dry-run", "alpha = [0.1, 0.5]"):
        assert word in help_text, word


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "table.csv").write_text("mine")
    for out, words in (
        (mine, "is no benchmark"),
        (plan, "is a file"),
    ):
        with pytest.raises(UserError, match=words):
            CliRunner().invoke(
                app,
                ["benchmark", str(plan), "--out", str(out), "--data", f"pictures={mine}"],
                catch_exceptions=False,
            )
    assert [path.name for path in mine.iterdir()] == ["table.csv"]


def test_a_folder_that_another_plan_began_is_pointed_out(tmp_path: Path) -> None:
    plan, out = (
        read_plan(plan_file(tmp_path), tmp_path / "out", {"pictures": str(tmp_path)}, ""),
        tmp_path / "out",
    )
    assert [open_folder(out, plan), open_folder(out, plan)] == [[], []]
    changed = replace(plan, text=plan.text + "# one more line")
    [remark] = open_folder(out, changed)
    assert "another plan" in remark
    assert (out / "plan.toml").read_text() == changed.text


def write_finished(cells: Iterable[Cell]) -> None:
    """Write what finished runs and baselines leave to say so, and with what settings."""
    for cell in cells:
        folder = Path(cell.config.out)
        folder.mkdir(parents=True, exist_ok=True)
        if cell.method:
            (folder / "config.toml").write_text(cell.config.to_toml())
            (folder / "summary.json").write_text("{}")
        else:
            (folder / "baselines.json").write_text(
                json.dumps({"settings": cell.config.to_flat(), "scores": {}})
            )


def test_finished_runs_of_other_settings_are_not_replaced_unasked(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def plan(*changes: tuple[str, str]) -> Plan:
        text = PLAN
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return read_plan(plan_file(tmp_path, text), out, {"pictures": str(tmp_path)})

    first = plan()
    assert open_folder(out, first) == []
    chosen = {"fedavg": 0.001, "robust": 4.0}
    write_finished(
        [
            replace(c, config=c.config.model_copy(update={"learning_rate": chosen[c.method]}))
            for c in first.cells[:3]
        ]
    )
    write_finished((*first.baselines, *first.tuning))
    assert open_folder(out, first) == [], "what tuning chose is no change"
    more = plan(
        ("seeds = [0, 1]", "seeds = [1, 2]"),
        ("[settings.few]", '[settings.new]\ndata = "pictures"\nrounds = 7\n[settings.few]'),
    )
    [remark] = open_folder(out, more)
    assert "another plan" in remark, "seeds and settings may come and go"

    other = plan(("rounds = 3", "rounds = 4"))
    with pytest.raises(
        UserError, match=r"7 finished runs and 2 .* few, fedavg, seed 0: rounds was 3, is 4\..*--force"
    ):
        open_folder(out, other)
    assert (out / "plan.toml").read_text() == more.text, "nothing was written"
    assert "they are made again" in open_folder(out, other, force=True)[1]

    one = plan(('strategy = "median"', 'strategy = "trimmed-mean"'))
    assert {cell.method for cell in finished(one).changed} == {"robust"}
    assert len(finished(one).done) == 6
    with pytest.raises(UserError, match=r"1 finished run there has .* learning-rate was 0.001, is 4.0"):
        compare(with_choices(first.cells[:1], [CHOSEN])).refuse_to_replace(out)


def test_a_plan_none_of_whose_data_can_be_read_is_refused_without_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()

    def extract(config: RunConfig) -> None:  # as the worker does, in a thread of this process
        read_source(Path(config.data))

    monkeypatch.setattr(pool, "Workers", ThreadPoolExecutor)
    monkeypatch.setattr("fedtransfer.simulations.benchmark.cells.extract_features", extract)
    arguments = [str(plan_file(tmp_path)), "--out", str(out), "--data", f"pictures={empty}"]
    with pytest.raises(UserError, match=r"(?s)few: features failed: .*/empty: found no image"):
        CliRunner().invoke(app, ["benchmark", *arguments], catch_exceptions=False)
    assert not [*out.glob("*.html"), *out.glob("*.csv")]


def test_a_dry_run_tells_what_would_be_made_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out, images = tmp_path / "out", tmp_path / "mine"
    images.mkdir()
    more = """
[settings.downloaded]
data = "cifar10"
[settings.absent]
data = "not-there"
[settings.own]
data = "cifar10-demo"
backbone = "nowhere.keras"
[methods.fedavg]"""
    plan = plan_file(tmp_path, PLAN.replace("\n[methods.fedavg]", more))
    ours = read_plan(plan, out, {"pictures": str(images)})
    write_finished((*ours.cells[:3], ours.tuning[0], ours.baselines[0]))
    before = sorted(tmp_path.rglob("*"))

    def told(*more: str) -> dict[str, str]:
        arguments = [
            str(plan),
            "--out",
            str(out),
            "--data",
            f"pictures={images}",
            "--dry-run",
            "--json",
            *more,
        ]
        return dict(
            json.loads(CliRunner().invoke(app, ["benchmark", *arguments], catch_exceptions=False).stdout)
        )

    assert told() == {
        "settings": "3: few, downloaded, own",
        "left out": "absent is left out: there is no not-there; give --data not-there=PATH",
        "methods": "2: fedavg, robust",
        "seeds": "2: 0, 1",
        "tuning": "11 to make, 1 there",
        "runs": "9 to make, 3 there",
        "baselines": "5 to make, 1 there; of each setting and seed",
        "data": f"{images}: there\n"
        "cifar10: to be downloaded by Keras, or taken from its cache; or --data cifar10=FILE.npz\n"
        "cifar10-demo: comes with fedtransfer",
        "backbones": "resnet18v2-tinyimagenet: comes with fedtransfer\nnowhere.keras: missing",
        "folder": str(out),
    }  # fmt: skip
    assert sorted(tmp_path.rglob("*")) == before
    plan.write_text(plan.read_text().replace("rounds = 3", "rounds = 4"))
    assert "rounds was 3, is 4; --force makes them again" in told()["refused"]
    preset = CliRunner().invoke(app, ["benchmark", "--preset", "quick", "--out", str(out), "--dry-run"])
    assert "90 to make, 0 there" in preset.stdout
    assert "2 minutes on 2 cores, roughly" in preset.stdout


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.run
def test_a_plan_is_run_and_gone_on_with(tmp_path: Path, folder_of_classes) -> None:
    """Killed or stopped in the middle, a benchmark goes on; its processes end with it.

    What is finished stays, but for a run with other settings now: ``--force`` makes it again.
    """
    images, out = folder_of_classes(24), tmp_path / "out"
    told, runs = command([str(plan_file(tmp_path))], out, images), out / "runs" / "few"

    log = tmp_path / "first.log"
    first = forked.start(*told, output=log, new_session=True, nested=True)
    wait_until(lambda: list(runs.glob("seed-*/*/measured.json")), "a run is made", first.died)
    children = [int(pid) for pid in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()]
    workers = [*children, *filter(None, map(forked.forked_for, children))]
    assert len(workers) >= 4, "two, and what stands for each"
    first.kill()
    first.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "its processes have ended")
    _stopped_by_a_person(told, log)
    finished = {path.parent: path.stat().st_mtime_ns for path in runs.rglob("measured.json")}
    assert 5 <= len(finished) < 8, "the tuning runs, and some of the others"
    assert f"{len(finished) - 4} of 4 runs are done" in log.read_text()
    assert not (out / "table.csv").exists()

    changed = next(folder for folder in finished if folder.parent.parent.name != "tuning")
    head, settings = (changed / "head.npz").read_bytes(), (changed / "config.toml").read_text()
    (changed / "config.toml").write_text(settings.replace("rounds = 3", "rounds = 2"))
    refused = forked.run(*told)
    assert (refused.returncode, refused.stdout) == (2, "")
    changes = "rounds was 2, is 3"
    assert changes in refused.stderr
    assert "1 finished run" in refused.stderr
    assert not (out / "table.csv").exists()
    done = forked.run(*told, "--force", nested=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["seconds"]) == {"features", "baselines", "tuning", "runs"}
    again = {
        folder for folder, when in finished.items() if (folder / "measured.json").stat().st_mtime_ns != when
    }
    assert again == {changed}, "nothing else is made again"
    assert "4 runs, after 4 that choose settings" in done.stderr
    assert changes in done.stderr
    assert done.stderr.count("was there") == len(finished) - 5
    assert (changed / "head.npz").read_bytes() == head, "the same run gives the same head"
    _tables_agree(out)
    _only_scores_are_taken(runs / "seed-0" / "robust")
    _baselines_are_those_that_were_there(runs / "seed-0")


def _stopped_by_a_person(told: Sequence[str], log: Path) -> None:
    """Start the benchmark, and stop it as a terminal's Ctrl-C does, before it has made a run."""
    log.write_text("")
    again = forked.start(*told, output=log, new_session=True, nested=True)
    wait_until(lambda: " runs at a time" in log.read_text(), "it has all features", again.died)
    os.killpg(again.pid, signal.SIGINT)
    assert again.wait(patient(60)) == 130, again.said()
    assert "Traceback" not in log.read_text()


def _only_scores_are_taken(folder: Path) -> None:
    """Stopped between its end and its scores, a run gets these, but no peak of memory."""
    before = json.loads((folder / "measured.json").read_text())
    (folder / "measured.json").unlink()
    row = run_cell(Cell("few", "robust", 0, settings_of(folder)), {}, {})
    assert row.measures["accuracy"] == before["measures"]["accuracy"]
    assert np.isnan(row.measures["peak_mb"])


def _baselines_are_those_that_were_there(folder: Path) -> None:
    """With another number of threads, which makes no difference to scores."""
    file = folder / "baselines.json"
    kept, written = json.loads(file.read_text()), file.stat().st_mtime_ns
    config = RunConfig.model_validate({**kept["settings"], "threads": 7})
    scores = measure_baselines(Cell("few", "", 0, config))
    assert {name: score.measures for name, score in scores.items()} == {
        name: score["measures"] for name, score in kept["scores"].items()
    }
    assert file.stat().st_mtime_ns == written, "not made again"


def _tables_agree(out: Path) -> None:
    cells, record = table(out / "cells.csv"), json.loads((out / "benchmark.json").read_text())
    lines = {row["method"]: row for row in table(out / "table.csv")}
    assert list(lines) == ["fedavg", "robust", *BASELINES]
    assert [(row["method"], row["seed"]) for row in cells[:4]] == [
        ("fedavg", "0"), ("robust", "0"), ("fedavg", "1"), ("robust", "1"),
    ]  # fmt: skip
    accuracy = {(row["method"], row["seed"]): float(row["accuracy"]) for row in cells}
    assert float(lines["fedavg"]["accuracy"]) == pytest.approx(np.mean([accuracy["fedavg", s] for s in "01"]))
    paired = [accuracy["robust", s] - accuracy["fedavg", s] for s in "01"]
    assert float(lines["robust"]["difference"]) == pytest.approx(np.mean(paired), abs=1e-6)
    [backbone] = record["backbones"]
    for line in lines.values():
        assert (line["fingerprint"], line["resolution"]) == (backbone["fingerprint"], "64")
    assert (lines["fedavg"]["expected"], record["expected"][0]["source"]) == ("0.9", "a guess")
    assert record["expected"][0]["measured"] == pytest.approx(float(lines["fedavg"]["accuracy"]), abs=1e-6)
    assert (out / "plan.toml").read_text() == PLAN
    assert "few" in (out / "report.html").read_text()
    for choice in record["tuning"]:
        best = choice["grid"][int(np.argmin(choice["validation_loss"]))]
        assert choice["chosen"] == best
        for seed in (0, 1):
            settings = (out / "runs" / "few" / f"seed-{seed}" / choice["method"] / "config.toml").read_text()
            assert f"learning-rate = {best['learning-rate']}" in settings
    for row in cells[:4]:
        _agrees_with_its_run(row, out / "runs" / "few" / f"seed-{row['seed']}")


def _agrees_with_its_run(row: dict[str, str], folder: Path) -> None:
    """Scores, rounds and bytes to 95 % of pooled, read a second way."""
    summary = json.loads((folder / row["method"] / "summary.json").read_text())
    for name, ours in (
        ("accuracy", "accuracy"), ("macro_recall", "balanced_accuracy"),
        ("macro_precision", "macro_precision"), ("macro_f1", "macro_f1"), ("loss", "nll"),
        ("worst_site_accuracy", "worst_site"),
    ):  # fmt: skip
        assert float(row[ours]) == pytest.approx(summary[name], abs=1e-5), name
    assert float(row["seconds_training"]) > float(row["seconds_aggregation"]) > 0
    assert not row["peak_mb"] or float(row["peak_mb"]) > 100, (
        "none where it was killed before its scores were taken"
    )
    pooled = json.loads((folder / "baselines.json").read_text())["scores"]["pooled softmax"]["measures"][
        "accuracy"
    ]
    spent = 0.0
    for rounds, entry in enumerate(table(folder / row["method"] / "history.csv")):
        if float(entry["accuracy"]) >= 0.95 * pooled:
            assert (float(row["rounds"]), float(row["bytes"])) == (rounds, spent)
            return
        spent += float(entry["bytes_up_per_site"]) + float(entry["bytes_down_per_site"])
    assert row["rounds"] == row["bytes"] == ""


@pytest.mark.process
def test_a_killed_process_fails_its_own_run_alone(tmp_path: Path) -> None:
    """As if memory ran out: of four runs, two at a time, one is killed whenever it is made."""
    cells = [Cell("s", name, 0, RunConfig()) for name in ("killed", "one", "two", "three")]
    failures: dict[str, str] = {}
    with pool.Workers(2) as executor:
        came = [
            cell.method
            for cell, _ in pool.results(
                executor, 2, cells, lambda cell: (killed_or_not, cell.method, tmp_path), print, failures
            )
        ]
    assert sorted(came) == ["one", "three", "two"]
    assert list(failures) == [str(cells[0])]
