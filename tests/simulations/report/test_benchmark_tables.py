"""The tables and figures of a benchmark's page."""

from pathlib import Path

from report_folders import altered, benchmark_folder
from report_pages import Page, Table


def scores(page: Page, setting: int = 0) -> Table:
    return page.sections[f"setting-{setting}"].tables["Scores"]


def test_methods_whose_intervals_overlap_with_the_best_are_in_bold_with_it(tables: Path, words) -> None:
    best = {"fed3r": "0.70", "fedavg": "0.69", "fedprox": "0.68"}
    altered(
        tables, lambda row: {**row, "accuracy": best.get(row["method"], "0.5"), "accuracy_interval": "0.006"}
    )
    page = words(tables)
    assert [scores(page, setting).marked for setting in (0, 1)] == [("fedavg", "fed3r")] * 2
    assert page.sections["setting-0"].says("bold", "overlap")


def test_no_interval_leaves_the_axis(iid_tables: Path, words) -> None:
    altered(iid_tables, lambda row: {**row, "accuracy": "0.97", "accuracy_interval": "0.1"})
    table = words(iid_tables).figures["Accuracy by method, iid"].table
    assert table["fedavg"]["federated"] == "97.0 % (87.0 % to 100.0 %)"


def test_a_curve_that_still_rises_is_named(tmp_path: Path, words) -> None:
    folder = benchmark_folder(tmp_path / "bench", ("iid",), 1)
    run = folder / "runs" / "iid" / "seed-0" / "fedavg"
    altered(run, lambda row: {**row, "accuracy": str(0.1 + 0.04 * int(row["round"]))}, "history.csv")
    figure = words(folder).figures["Accuracy by round, iid"]
    assert figure.says("fedavg was still rising")
    assert not figure.says("fedprox was still rising")
    good, *_ = words(run).answer
    assert good.says("still rising", "8.0 points")


def test_the_scores_tell_epsilon_beside_the_method_and_leave_out_what_agrees(
    bench_page: Page, iid_tables: Path, words
) -> None:
    columns = scores(bench_page).columns
    assert columns[:3] == ("method", "ε", "accuracy")
    assert {"worst tenth of sites", "difference to fedavg, points"} <= set(columns)
    assert not [column for column in columns if "worst site" in column or "precision" in column]
    assert bench_page.sections["setting-0"].says("table.csv")
    altered(iid_tables, lambda row: {**row, "bottom_decile": row["worst_site"], "difference": "-0.004"})
    page = words(iid_tables)
    assert "worst tenth of sites" not in scores(page).columns
    assert scores(page)["fedavg"]["difference to fedavg, points"] == "−0.4 ± 0.8"


def test_every_point_is_among_the_numbers_with_its_interval(bench_page: Page) -> None:
    table = bench_page.figures["Accuracy against bytes, iid"].table
    assert len(table.rows) == 15
    assert {"fedavg", "fed3r with ε, ε = 0.5", "dp-sgd, ε = 8"} <= set(table.names)
    assert all(" to " in accuracy for accuracy in table.column("accuracy"))


def test_runs_of_an_earlier_plan_are_not_drawn(one_seed_page: Page, tmp_path: Path, words) -> None:
    """Their folders stay where a plan is changed; the tables have rows of the new plan alone."""
    assert one_seed_page.figures["Accuracy by round, iid"].table.columns[1:] == (
        "fedavg",
        "fedprox",
        "scaffold",
    )
    folder = benchmark_folder(tmp_path / "bench", ("iid",), 1)
    cells = (folder / "cells.csv").read_text("utf-8").splitlines()
    (folder / "cells.csv").write_text("\n".join(cells[:2]) + "\n", "utf-8")
    assert words(folder).figures["Accuracy by round, iid"].table.columns[1:] == ("fedavg",)
