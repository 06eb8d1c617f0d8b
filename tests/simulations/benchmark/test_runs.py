"""Plans of runs: what they hold, that they go on where they were, and the tables that come of them."""

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from common.errors import UserError
from simulations.benchmark.plans import read_plan, same_run
from simulations.benchmark.tables import Row, mean_and_interval, summarise

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
[settings.absent]
data = "not-there"
[methods.plain]
server-momentum = 0.0
server-learning-rate = 1.0
[methods.robust]
strategy = "median"
"""


def plan_file(folder: Path, text: str = PLAN) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name", sorted({path.stem for path in (ROOT / "fedtransfer_assets" / "plans").glob("*.toml")} | {"heads", "depths"})
)
def test_the_plans_that_come_with_it_are_plans(name: str, tmp_path: Path) -> None:
    plan = read_plan(ROOT / "fedtransfer_assets" / "plans" / f"{name}.toml", Path("out"), {"pacs": str(tmp_path)})
    assert not plan.remarks
    assert len({cell.config.out for cell in plan.cells}) == len(plan.cells)
    assert {cell.place for cell in plan.cells} == {cell.place for cell in plan.baselines}
    if name == "heads":
        assert len({cell.setting for cell in plan.cells}) == 7
        assert max(cell.config.rounds for cell in plan.cells) <= 50


def test_a_setting_without_its_data_is_left_out(tmp_path: Path) -> None:
    plan = read_plan(plan_file(tmp_path), tmp_path / "out", {"pictures": str(tmp_path)})
    assert [(c.setting, c.seed, c.method) for c in plan.cells] == [
        ("few", seed, method) for seed in (0, 1) for method in ("plain", "robust")
    ]
    assert len(plan.remarks) == 1
    assert "absent is left out: there is no not-there; give --data not-there=PATH" in plan.remarks[0]
    with pytest.raises(UserError, match="none of its data are there"):
        read_plan(plan_file(tmp_path), tmp_path / "out", {})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("rounds = 3", "round = 3"), r"settings.few: unknown key 'round'; did you mean 'rounds'"),
        (('"median"', '"mean"'), r"settings.few with methods.robust: strategy: got 'mean'; did you mean 'median'"),
        (("[methods.plain]", '[methods."a/b"]'), r"'a/b' names a folder"),
        (("seeds", "seed"), r"unknown key 'seed'; did you mean 'seeds'"),
    ],
)
def test_a_plan_that_is_wrong_is_refused(tmp_path: Path, wrong: tuple[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_plan(plan_file(tmp_path, PLAN.replace(*wrong)), tmp_path, {"pictures": str(tmp_path)})


def test_what_does_not_change_a_result_does_not_make_it_another_run(tmp_path: Path) -> None:
    one, other = (
        cell.config for cell in read_plan(plan_file(tmp_path), tmp_path, {"pictures": str(tmp_path)}).cells[:2]
    )
    assert same_run(one, one.model_copy(update={"threads": 7, "out": "", "store": "/there"}))
    assert not same_run(one, one.model_copy(update={"rounds": 4}))
    assert not same_run(one, other)
    masked = one.model_copy(update={"masks": True})
    assert same_run(masked, masked.model_copy(update={"classes": "declared", "class_names": "cat,dog"}))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9, unique=True))
def test_intervals_are_those_of_the_t_distribution(values: list[float]) -> None:
    mean, half = mean_and_interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose([mean - half, mean + half], [low, high], atol=1e-12)


def test_rounds_are_averaged_over_the_seeds_that_got_there() -> None:
    rows = [Row("s", "m", 0, 0.5, 4, 100.0, 1.0), Row("s", "m", 1, 0.7), Row("s", "m", 2, 0.6, 6, 300.0, 1.0)]
    [line] = summarise(rows)
    assert (line.seeds, line.reached, line.rounds, line.bytes) == (3, 2, 5.0, 200.0)
    assert line.accuracy == pytest.approx(0.6)
    [single] = summarise(rows[:1])
    assert math.isnan(single.accuracy_interval), "one value has no interval"


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_plan_is_run_and_gone_on_with(tmp_path: Path, folder_of_classes) -> None:
    """Two processes make all runs; then one lacks its end, one has other settings, and those alone are made again."""
    images, out = folder_of_classes(24), tmp_path / "out"

    def benchmark(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fedtransfer", "benchmark", "methods", str(plan_file(tmp_path)), "--out", str(out),
                   "--data", f"pictures={images}", "--store", str(tmp_path / "store"), "--processes", "2", "--json", *more]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    done = benchmark()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["seconds"]) == {"features", "baselines", "runs", "total"}
    assert "features of" in done.stderr
    assert "72 extracted" in done.stderr
    cells = table(out / "cells.csv")
    assert [(row["method"], row["seed"]) for row in cells] == [
        ("plain", "0"), ("robust", "0"), ("plain", "1"), ("robust", "1"),
    ]  # fmt: skip
    lines = {row["method"]: row for row in table(out / "table.csv")}
    assert set(lines) == {"plain", "robust", "pooled softmax", "pooled ridge", "pooled NCM", "majority class"}
    accuracies = [float(row["accuracy"]) for row in cells if row["method"] == "plain"]
    assert float(lines["plain"]["accuracy"]) == pytest.approx(np.mean(accuracies))
    for row in cells:
        _agrees_with_its_history(row, out / "runs" / "few" / f"seed-{row['seed']}")

    runs = out / "runs" / "few"
    heads = {path: path.read_bytes() for path in sorted(runs.glob("*/*/head.npz"))}
    (runs / "seed-0" / "plain" / "summary.json").unlink()
    other = runs / "seed-1" / "robust" / "config.toml"
    other.write_text(other.read_text().replace("rounds = 3", "rounds = 2"))
    shutil.rmtree(runs / "seed-1" / "plain")
    (runs / "seed-1" / "plain").mkdir()
    (runs / "seed-1" / "plain" / "precious.txt").write_text("not a run")
    done = benchmark()
    assert done.returncode == 1, "one cell cannot be made"
    assert "few, plain, seed 1: failed" in done.stderr
    assert "exists and is not a run folder" in done.stderr
    assert len(table(out / "cells.csv")) == 3
    made = {line.split(", ")[1] for line in done.stderr.splitlines() if "min left" in line}
    assert made == {"plain", "robust"}
    assert done.stderr.count("was there") == 1
    assert "rounds = 3" in other.read_text()
    for path, content in heads.items():
        if path.parent != runs / "seed-1" / "plain":
            assert path.read_bytes() == content, f"{path}: the same run gives the same head"


def _agrees_with_its_history(row: dict[str, str], folder: Path) -> None:
    """Rounds and bytes to 95 % of pooled, read a second way."""
    pooled = json.loads((folder / "baselines.json").read_text())["accuracy"]["softmax"]
    spent = 0.0
    for rounds, entry in enumerate(table(folder / row["method"] / "history.csv")):
        if float(entry["accuracy"]) >= 0.95 * pooled:
            assert (float(row["rounds"]), float(row["bytes"])) == (rounds, spent)
            return
        spent += float(entry["bytes_up_per_site"]) + float(entry["bytes_down_per_site"])
    assert row["rounds"] == row["bytes"] == ""
