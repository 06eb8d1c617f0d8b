"""The page about several runs: what differs, what cannot be compared, and what seeds change."""

import json
from pathlib import Path

import pytest
from report_folders import run_folder


def private_run(path: Path, **settings) -> Path:
    return run_folder(path, privacy={}, dp="image", epsilon=2.0, weighting="uniform", **settings)


def test_runs_that_differ_are_compared(run: Path, tmp_path: Path, words) -> None:
    page = words(run, private_run(tmp_path / "other", rounds=20))
    good, private, _ = page.answer
    assert private.number.startswith("1 of 2")
    assert private.says("other", "ε = 2")
    assert good.says("71.0 %", "alone")
    [settings] = page.sections["settings"].tables.values()
    assert dict(zip(settings.names, settings.column("plain"), strict=True)) == {
        "learning-rate": "2.5", "rounds": "12", "weighting": "examples", "dp": "none", "epsilon": "0",
    }  # fmt: skip


def test_runs_on_one_data_set_have_a_winner(run: Path, tmp_path: Path, words) -> None:
    page = words(run, run_folder(tmp_path / "same", seed=1, rounds=3))
    [runs] = page.sections["runs"].tables.values()
    accuracy = {row[runs.columns[0]]: float(row["accuracy"].split()[0]) for row in runs.rows}
    assert runs.marked == (max(accuracy, key=lambda name: accuracy[name]),)


def test_runs_on_different_data_have_no_winner(run: Path, tmp_path: Path, words) -> None:
    page = words(run, run_folder(tmp_path / "other", data="pacs", seed=1))
    good, *_ = page.answer
    assert good.number.startswith("2 data sets")
    assert good.says("pacs", "other")
    assert not good.says("best of")
    assert "highest" not in page.text
    [runs] = page.sections["runs"].tables.values()
    assert runs.marked == ()


def test_a_one_shot_head_has_no_rounds(run: Path, tmp_path: Path, words) -> None:
    page = words(run, run_folder(tmp_path / "once", strategy="fedncm", rounds=30, server_learning_rate=0.3))
    [settings] = page.sections["settings"].tables.values()
    assert settings["rounds"] == {settings.columns[0]: "rounds", "plain": "12", "once": "—"}
    assert "71.0 %" in page.text, "the mean of sites alone is in the table"


@pytest.mark.run
def test_a_run_has_one_colour_in_all_figures(run: Path, tmp_path: Path, drawn) -> None:
    figures = drawn(private_run(tmp_path / "private"), run)
    colours = {title: figure.colours for title, figure in figures.figures.items()}
    assert colours["Accuracy by round"] == {"s2"}, "the first has no curve: the second keeps its colour"
    assert colours["Accuracy by site"] == {"s1", "s2"}


def test_seeds_of_one_setting_have_mean_and_spread(tmp_path: Path, words) -> None:
    runs = [run_folder(tmp_path / f"seed-{i}", seed=i) for i in range(3)]
    accuracy = [json.loads((folder / "summary.json").read_text("utf-8"))["accuracy"] for folder in runs]
    mean = sum(accuracy) / 3
    spread = (sum((value - mean) ** 2 for value in accuracy) / 2) ** 0.5
    good, *_ = words(*runs).answer
    assert good.number == f"{100 * mean:.1f} ± {100 * spread:.1f} %"
    assert good.says("3 seeds", "0 to 2")


def test_two_seeds_have_their_values(tmp_path: Path, words) -> None:
    runs = [run_folder(tmp_path / f"seed-{i}", seed=i) for i in range(2)]
    accuracy = [json.loads((folder / "summary.json").read_text("utf-8"))["accuracy"] for folder in runs]
    page = words(*runs)
    good, *_ = page.answer
    assert good.number == f"{100 * min(accuracy):.1f} % to {100 * max(accuracy):.1f} %"
    assert good.says("two are too few")
    assert "±" not in page.text
