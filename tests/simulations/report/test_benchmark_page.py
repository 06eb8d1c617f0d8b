"""The page about a benchmark: the best methods, their ε and cost, and what sites have alone."""

import csv
import json
import re
from pathlib import Path

import pytest
from report_folders import altered, baselines_alone, benchmark_folder, write_csv
from report_pages import Page

from fedtransfer.common.config.config import RunConfig
from fedtransfer.server.run_folder.folder import write_settings
from fedtransfer.simulations.report.texts import span

ALONE = "sites that do better alone"


def test_a_benchmark_names_the_best_method_of_each_setting(bench_page: Page) -> None:
    sections = bench_page.sections
    assert [*sections] == ["answer", "glance", "setting-0", "setting-1", "how", "plan", "repeat", "versions"]
    assert bench_page.headings[2:4] == ["iid", "alpha-0.3"]
    assert sections["setting-0"].says("15 methods", "fed3r", "66.9 ± 0.8 %")
    assert [*sections["setting-0"].figures] == [
        f"Accuracy {against}, iid" for against in ("by method", "by round", "against ε", "against bytes")
    ]
    _, private, _ = bench_page.answer
    assert private.number == "ε = 0.5 to 8 by 10 of 15 methods"
    assert private.says("0.5 to 8", "10⁻⁵", "10 methods", "one training image")
    elsewhere = sections["how"].tables["Numbers from elsewhere"]
    assert elsewhere.column("source") == ["the paper's table 2", "its table 13"]
    assert elsewhere.column("measured") == ["0.672", "not run"]
    assert sections["repeat"].code == ["fedtransfer benchmark --preset privacy --out bench"]


def test_a_setting_is_described(bench_page: Page) -> None:
    assert bench_page.sections["setting-0"].says("cifar10-demo", "5 sites", "Dirichlet(0.3)")


def test_what_sites_have_on_their_own_images_stands_beside_what_each_has_alone(
    bench_page: Page, tables: Path, words
) -> None:
    [glance] = bench_page.sections["glance"].tables.values()
    assert glance["iid"][glance.columns[-2]] == "68.9 % / 71.2 %"
    assert bench_page.sections["setting-0"].says("68.9 %", "71.2 %")
    altered(tables, lambda row: {name: cell for name, cell in row.items() if not name.startswith("own_mean")})
    older = words(tables)
    [without] = older.sections["glance"].tables.values()
    assert set(glance.columns) - set(without.columns) == {glance.columns[-2]}
    assert without.column(ALONE) == ["30 %", "30 %"]
    assert not older.says("71.2 %")
    assert older.sections["setting-0"].says("30 % of sites")


@pytest.mark.run
def test_accuracies_stand_beside_the_epsilon_that_they_are_had_at(tables: Path, drawn) -> None:
    """And ε is rounded up: what was spent of a budget of 8 is written as 8 everywhere."""

    def spent(row: dict[str, str]) -> dict[str, str]:
        return {**row, "epsilon": str(0.99999 * float(row["epsilon"]))} if row["epsilon"] else row

    folder = altered(tables, spent)
    best = dict[tuple[str, str], float]()
    for row in csv.DictReader((folder / "table.csv").open(encoding="utf-8")):
        if not row["method"].startswith(("pooled", "local", "majority")):
            level = f"{float(row['epsilon']):.0f}" if row["epsilon"] else ""
            best[row["setting"], level] = max(best.get((row["setting"], level), 0), float(row["accuracy"]))
    bare, most = (
        span(*(f"{100 * best[name, level]:.0f}" for name in ("alpha-0.3", "iid"))) for level in ("", "8")
    )
    page = drawn(folder)
    good, *_ = page.answer
    assert good.number.startswith(f"{bare} % without differential privacy, {most} % at ε = 8, ")
    assert page.sections["setting-0"].says("fed3r ε=8", f"{100 * best['iid', '8']:.1f} ± 0.8 %")
    [glance] = page.sections["glance"].tables.values()
    assert glance.columns[:3] == ("setting", "best without differential privacy", "best at ε = 8")
    assert glance.names == ["iid", "alpha-0.3"]
    for row in glance.rows:
        setting, without, at_most, *_ = row.values()
        assert without.startswith(f"{100 * best[setting, '']:.1f} ± ")
        assert at_most.startswith(f"{100 * best[setting, '8']:.1f} ± ")
        assert at_most.endswith(", fed3r"), "without the ε that the column names"
    assert not re.findall(r"\b7\.9+2?\b", page.text)


def test_sites_that_do_better_alone_are_told_of(iid_tables: Path, words) -> None:
    altered(
        iid_tables, lambda row: {**row, "worse_than_local": "0.88" if row["method"] == "fed3r" else "1.0"}
    )
    assert words(iid_tables).says("88 % of sites", "fed3r", "from 88 % to 100 %")


def test_of_two_seeds_both_values_are_told(tmp_path: Path, words) -> None:
    two = words(benchmark_folder(tmp_path / "two", ("iid",), 2))
    row = next(csv.DictReader((tmp_path / "two" / "table.csv").open(encoding="utf-8")))
    low, high = (f"{100 * (float(row['accuracy']) + off):.1f}" for off in (-0.01, 0.01))
    scores = two.sections["setting-0"].tables["Scores"]
    assert scores[row["method"]]["accuracy"] == f"{100 * float(row['accuracy']):.1f} ({low} to {high}) %"
    assert two.figures["Accuracy by method, iid"].says("two seeds")
    assert "±" not in two.text
    assert "interval" not in two.figures["Accuracy by method, iid"].text


def test_of_one_seed_it_is_told_that_it_is_one(one_seed_page: Page) -> None:
    one = one_seed_page
    assert one.says("15 methods", "1 seed each")
    assert one.sections["setting-0"].says("one seed each")
    assert "±" not in one.text
    assert "95 % interval" not in one.text


def test_a_benchmark_of_baselines_alone_tells_of_these(tables: Path, words) -> None:
    page = words(baselines_alone(tables))
    good, private, _ = page.answer
    assert "%" in good.number
    assert "all images in one place" in good.number
    assert "ε" not in private.number
    assert page.says("baselines only", "2 settings")
    assert page.sections["setting-0"].says("No method", "pooled")


def test_a_setting_that_failed_wholly_is_named_in_the_answer_and_every_failure_once(
    tables: Path, words
) -> None:
    about = json.loads((tables / "benchmark.json").read_text("utf-8"))
    about["failures"] = {f"alpha-0.1, fedavg, seed {seed}": "too few images" for seed in range(3)}
    about["failures"] |= {f"iid, fed3r, seed {seed}": "no memory" for seed in range(2)}
    (tables / "benchmark.json").write_text(json.dumps(about), "utf-8")
    sections = dict(words(tables).sections)
    answer = sections.pop("answer")
    assert answer.says("alpha-0.1", "all 3 runs", "too few images")
    assert "no memory" not in answer.text
    rest = " ".join(section.text for section in sections.values())
    assert rest.count("too few images") == rest.count("no memory") == 1
    assert any(section.says("iid", "2 runs", "fed3r", "no memory") for section in sections.values())


def test_costs_are_those_of_the_best_methods_with_their_names(bench_page: Page) -> None:
    *_, cost = bench_page.answer
    parts = cost.number.split(", ")
    assert [part.split(" for ")[0] for part in parts] == ["270 KB"] * 3
    assert [level in part for level, part in zip(("without", "ε = 8", "ε = 0.5"), parts, strict=True)] == [
        True
    ] * 3
    assert cost.says("fedncm needs least, 10.3 KB", "scaffold most, 4.2 MB")
    assert cost.says("15 min 18 s")


def test_who_promises_no_privacy_is_told_by_setting_where_methods_differ_in_it(
    bench_page: Page, tables: Path, words
) -> None:
    _, private, _ = bench_page.answer
    assert private.says("No promise", "5 methods")
    assert not private.says("some setting")
    sometimes = {"method": "dp-sgd ε=8", "setting": "iid"}
    altered(tables, lambda row: {**row, "epsilon": ""} if sometimes.items() <= row.items() else row)
    _, private, _ = words(tables).answer
    assert private.says("No promise", "5 methods")
    assert private.says("some settings", "dp-sgd ε=8")
    altered(tables, lambda row: {**row, "epsilon": ""})
    _, private, cost = words(tables).answer
    assert "ε" not in private.number
    assert private.says("None", "15 methods")
    assert "," not in cost.number, "one best method"


def test_a_backbone_that_is_trained_is_not_called_frozen(
    tmp_path: Path, one_seed_page: Page, run_page: Page, words
) -> None:
    name = "resnet18v2-tinyimagenet at 64 px"
    for page in (one_seed_page, run_page):
        assert page.says("Frozen backbone", name)
        assert not page.says("trained from")
    folder = benchmark_folder(tmp_path / "bench", ("iid",), 1)
    run = folder / "runs" / "iid" / "seed-0" / "fedavg"
    write_settings(run, RunConfig(rounds=12, trainable="conv5"))
    for page in (words(folder), words(run)):
        assert page.says(name, "trained from conv5")
        assert not page.says("Frozen backbone")


def test_where_pooled_softmax_is_no_upper_bound_costs_say_so(
    bench_page: Page, iid_tables: Path, words
) -> None:
    def warns(page: Page) -> bool:
        return page.sections["setting-0"].says("pooled softmax", "60.0 %", "95 %", "pooled ridge", "epochs")

    assert not warns(bench_page)
    altered(iid_tables, lambda row: {**row, "accuracy": "0.6"} if row["method"] == "pooled softmax" else row)
    assert warns(words(iid_tables))


def test_settings_on_test_images_that_nobody_knows_are_not_to_be_compared(bench_page: Page) -> None:
    assert bench_page.sections["glance"].says("may have test images of their own", "within a row")


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ([["a", ""], ["b", ""]], ("has its own test images", "within a row")),
        ([["a", "test"], ["b", "development"]], ()),
    ],
)
def test_settings_on_other_test_images_are_not_to_be_compared(
    splits: list[list[str]], told: tuple[str, ...], tmp_path: Path, words
) -> None:
    folder = benchmark_folder(tmp_path / "bench", seeds=1)
    for setting in ("iid", "alpha-0.3"):
        run = folder / "runs" / setting / "seed-0" / "fedavg"
        write_csv(run / "sites" / "north" / "images.csv", ("path", "split"), splits)
    glance = words(folder).sections["glance"]
    assert glance.says(*told)
    assert glance.says("within a row") is bool(told)
