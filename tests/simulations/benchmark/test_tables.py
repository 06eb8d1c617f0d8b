"""Tables of many runs: intervals, paired differences, what is counted, chosen and seen."""

import csv
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fedtransfer.common.config.config import RunConfig
from fedtransfer.simulations.benchmark.measures import Row, fairness, run_measures
from fedtransfer.simulations.benchmark.plan_file import Expected
from fedtransfer.simulations.benchmark.plans import Cell, choose, with_choices
from fedtransfer.simulations.benchmark.pool import available_mb, forget_peak, peak_mb, processes_that_fit
from fedtransfer.simulations.benchmark.tables import (
    MEASURES,
    missing_methods,
    results_table,
    summarise,
    with_differences,
    write_tables,
)
from fedtransfer.simulations.scoring.baselines import Score


def row(method: str, seed: int, accuracy: float, setting: str = "s", **more: float) -> Row:
    return Row(setting, method, seed, {"accuracy": accuracy, **more}, {"resolution": "64"})


def test_rounds_are_averaged_over_the_seeds_that_got_there() -> None:
    rows = [
        row("m", 0, 0.5, rounds=4, bytes=100.0, reached=1),
        row("m", 1, 0.7, rounds=math.nan, reached=0),
        row("m", 2, 0.6, rounds=6, bytes=300.0, reached=1),
    ]
    [line] = summarise(rows)
    assert (line.seeds, line.reached, line.estimates["rounds"].mean, line.estimates["bytes"].mean) == (
        3,
        2,
        5.0,
        200.0,
    )
    assert line.estimates["accuracy"].mean == pytest.approx(0.6)
    [single] = summarise(rows[:1])
    assert math.isnan(single.estimates["accuracy"].half), "one value has no interval"


def test_differences_to_fedavg_are_paired_by_seed() -> None:
    """Accuracy varies much between seeds, and not at all in its difference."""
    rows = [
        row(method, seed, seed / 10 + gain)
        for seed in (1, 2, 3)
        for method, gain in (("fedavg", 0.0), ("other", 0.02))
    ]
    rows.append(row("other", 4, 0.9))
    fedavg, other = summarise(with_differences(rows))
    assert math.isnan(fedavg.estimates["difference"].mean)
    assert other.estimates["difference"].mean == pytest.approx(0.02)
    assert other.estimates["difference"].half == pytest.approx(0, abs=1e-12)
    assert other.estimates["accuracy"].half > 0.3
    alone = summarise(with_differences([row("other", 1, 0.5, setting="t"), *rows]))[0]
    assert math.isnan(alone.estimates["difference"].mean), "fedavg of another setting is no reference"


def test_fairness_looks_at_single_sites() -> None:
    own = {f"site-{i:02}": i / 20 for i in range(20)}
    local = Score({}, {"site-00": 0.5, "site-19": 0.5, "elsewhere": 1.0})
    told = fairness(Score({}, own), {"local only": local})
    assert told == pytest.approx(
        {"own_mean": 0.475, "worst_site": 0.0, "bottom_decile": 0.025, "worse_than_local": 0.5}
    )
    assert fairness(local, {})["own_mean"] == pytest.approx(2 / 3), "of sites alone, each by its own head"
    assert fairness(Score({}, {"a": 0.3, "b": 0.4}), {})["bottom_decile"] == 0.3, "one site at least"
    assert all(math.isnan(value) for value in fairness(Score({}, {}), {}).values())


def entry(
    phase: str, accuracy: str, planned: str, seconds: str = "2", aggregating: str = "0.5"
) -> dict[str, str]:
    return {"phase": phase, "status": "ok", "accuracy": accuracy, "sites_planned": planned,
            "bytes_down_per_site": "100", "bytes_up_per_site": "10", "seconds": seconds,
            "seconds_aggregating": aggregating}  # fmt: skip


def test_a_run_is_counted_up_to_the_head_that_was_good_enough() -> None:
    history = [
        entry("train", "0.1", "10"),
        entry("train", "0.5", "10"),
        entry("train", "0.77", "10"),
        entry("score", "0.8", "10"),
    ]
    told = run_measures(history, {"seconds": {"features": 3.0}}, 0.8, RunConfig(sites=10))
    assert told == pytest.approx(
        {"reached": 1, "rounds": 2, "bytes": 220, "bytes_up": 40, "bytes_down": 400, "seconds_features": 3.0,
         "seconds_training": 6.0, "seconds_aggregation": 2.0}
    )  # fmt: skip
    assert run_measures(history, {"seconds": {}}, 0.9, RunConfig(sites=10))["reached"] == 0


def test_where_a_part_of_the_sites_scored_a_head_nobody_knows_when_one_was_good_enough() -> None:
    """A cohort's few test images may all be of the class that the head tells: 0.77 is no proof."""
    history = [entry("train", "0.1", "5"), entry("train", "0.77", "5"), entry("score", "0.2", "10")]
    told = run_measures(history, {"seconds": {}}, 0.8, RunConfig(sites=10, fraction=0.5))
    assert (told["bytes_up"], told["bytes_down"]) == (20, 200)
    assert all(math.isnan(told[name]) for name in ("reached", "rounds", "bytes"))
    [line] = summarise([row("m", 0, 0.2, **told), row("m", 1, 0.2, **told)])
    assert math.isnan(line.reached), "which is not the same as none"


def test_what_is_secret_is_not_counted() -> None:
    secret = [entry("train", "", "", "", "")]
    told = run_measures(secret, {"seconds": {}}, 0.8, RunConfig(sites=10, fraction=0.2))
    assert told["bytes_up"] == pytest.approx(2.0), "as many as are drawn in the mean"
    assert all(
        math.isnan(told[name])
        for name in ("reached", "rounds", "bytes", "seconds_training", "seconds_features")
    )


def test_adaptation_is_told_where_a_run_has_it() -> None:
    tuned = {"mean": 0.9, "worse_than_global": 0.1}
    summary = {
        "seconds": {}, "personal": {"fine_tuned": tuned, "mixed": {"mean": 0.95}},
        "unseen_sites": {"global": 0.5, "adapted": {"20": {"accuracy": None}}},
    }  # fmt: skip
    told = run_measures([], summary, 0.8, RunConfig())
    assert (told["personal"], told["personal_mixed"], told["personal_worse"], told["unseen"]) == (
        0.9,
        0.95,
        0.1,
        0.5,
    )
    assert math.isnan(told["unseen_adapted"])


def test_what_hostile_sites_achieved_is_told_where_there_are_some() -> None:
    attack = {"sites": ["a"], "source": "cat", "target": "dog", "backdoor": 0.9, "mistaken": None}
    told = run_measures([], {"seconds": {}, "attack": attack}, 0.8, RunConfig())
    assert told["backdoor"] == 0.9
    assert math.isnan(told["mistaken"])
    assert "backdoor" not in run_measures([], {"seconds": {}}, 0.8, RunConfig())


def cell(method: str, seed: int, **tried: float) -> Cell:
    return Cell(
        "s", method, seed, RunConfig(), {name.replace("_", "-"): value for name, value in tried.items()}
    )


def test_the_lowest_validation_loss_is_chosen_and_taken() -> None:
    grid = [cell("a", 9, learning_rate=rate) for rate in (1.0, 2.0, 3.0)] + [cell("b", 9, learning_rate=1.0)]
    choices = choose(grid, {str(grid[0]): 0.5, str(grid[1]): 0.4, str(grid[2]): math.nan})
    assert [choice["chosen"] for choice in choices] == [{"learning-rate": 2.0}, None]
    assert choices[0]["grid"] == [{"learning-rate": 1.0}, {"learning-rate": 2.0}, {"learning-rate": 3.0}]
    told = with_choices([cell("a", 0), cell("b", 0), cell("c", 0)], choices)
    assert [(c.method, c.config.learning_rate) for c in told] == [
        ("a", 2.0),
        ("c", RunConfig().learning_rate),
    ]


def test_as_many_processes_as_cores_and_memory_allow() -> None:
    assert processes_that_fit(8, 10_000, 1000) == 8
    assert processes_that_fit(8, 4_000, 1000) == 3
    assert processes_that_fit(8, 100, 1000) == 1, "one at least"
    assert processes_that_fit(8, math.inf, 1000) == 8


def test_the_peak_of_memory_can_be_measured_anew() -> None:
    blob = np.ones(12_000_000)
    high = peak_mb()
    del blob
    forget_peak()
    assert peak_mb() < high - 50
    assert available_mb() > 0


def test_tables_have_every_measure_with_its_interval_and_stay_empty_where_nothing_is(tmp_path: Path) -> None:
    rows = [row("m", seed, 0.5 + seed / 8, nll=1.0, bytes_up=12345678.0) for seed in (0, 1)]
    expected = Expected(setting="s", method="m", accuracy=0.6, source="there")
    write_tables(tmp_path, rows, summarise(rows, [expected]))
    with (tmp_path / "table.csv").open() as file:
        [line] = csv.DictReader(file)
    assert {name for measure in MEASURES for name in (measure, f"{measure}_interval")} < set(line)
    assert (line["accuracy"], line["bytes_up"], line["auroc"], line["reached"]) == (
        "0.5625",
        "12345678",
        "",
        "",
    )
    assert (line["expected"], line["source"], line["resolution"], line["epsilon"]) == (
        "0.6",
        "there",
        "64",
        "",
    )
    with (tmp_path / "cells.csv").open() as file:
        assert [cell["accuracy"] for cell in csv.DictReader(file)] == ["0.5", "0.625"]


def test_what_a_person_sees_fits_120_columns() -> None:
    many = dict.fromkeys(MEASURES, 0.123) | {"bytes_up": 123456789.0, "rounds": 48.0, "reached": 1.0}
    rows = [
        Row(
            "part-of-the-sites+fraction=0.1+alpha=0.05",
            "fed3r-then-fedavg-momentum",
            s,
            many,
            {"epsilon": "8"},
        )
        for s in (0, 1)
    ]
    rows[1] = Row(
        rows[1].setting,
        rows[1].method,
        1,
        many | {"rounds": math.nan, "reached": 0.0, "accuracy": 1.0, "difference": -1.0},
        rows[0].facts,
    )
    expected = Expected(setting=rows[0].setting, method=rows[0].method, accuracy=0.6, source="there")
    console = Console(width=120, file=StringIO())
    console.print(results_table(summarise(rows, [expected])))
    text = console.file.getvalue()
    assert "…" not in text
    assert all(word in text for word in ("part-of-the-sites", "48 (1/2)", "123 MB", "60.0", "- fedavg"))
    assert "56.1 (12.3, 100.0)" in text, "an interval of two seeds is 13 times as wide as they are apart"
    assert "-43.9 (-100.0, +12.3)" in text
    assert "±" not in text.split("mean (both values) of two seeds")[0]
    console.print(results_table(summarise([*rows, replace(rows[0], seed=2)])))
    assert "41.5 ± " in console.file.getvalue()


def test_what_was_not_run_is_said_beside_the_number_from_elsewhere() -> None:
    run, absent = (
        Expected(setting="s", method=name, accuracy=0.538, source="table 13") for name in ("m", "other")
    )
    lines = summarise([row("m", 0, 0.5)], [run])
    assert missing_methods([run, absent], lines) == ["not run: s, other; elsewhere 53.8 % (table 13)"]
