"""Pages with drawings: figures have words and numbers, colours and letters are the page's own."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report_folders import (
    altered,
    audit_folder,
    audit_of_a_run,
    baselines_alone,
    benchmark_folder,
    run_folder,
    with_more_images,
)
from report_pages import Page

pytestmark = pytest.mark.run

HOSTILE = [
    "<script>alert(1)</script>", "a & b \"quoted\" 'x'", "x" * 300, "שלום עולם",
    "👩‍⚕️ clinic 🏥", "$\\alpha$ {{7*7}} \u202eevil\x07", '"><img src=x onerror=alert(1)>',
    "]]><svg onload=alert(1)>", "fill: #fe0001",
]  # fmt: skip


def test_every_figure_has_title_description_and_a_table_of_its_numbers(drawn_run: Page) -> None:
    assert len(drawn_run.figures) == 5
    for figure in drawn_run.figures.values():
        named = figure.svg.get("aria-labelledby", "").split()
        assert [part.tag for part in figure.svg.iter() if part.get("id") in named] == ["title", "desc"]
        assert figure.description
        assert figure.labels
        assert len(figure.table.rows) > 1


def test_drawings_change_no_words(
    drawn_run: Page, run_page: Page, drawn, one_seed: Path, one_seed_page: Page
) -> None:
    """So pages without drawings, which other tests read, say what whole ones do."""
    for whole, part in ((drawn_run, run_page), (drawn(one_seed), one_seed_page)):
        assert [section.text for section in whole.sections.values()] == [
            section.text for section in part.sections.values()
        ]


def test_colours_are_the_page_s_own_and_none_is_left_from_the_drawing(drawn_run: Page) -> None:
    assert "#fe00" not in drawn_run.source
    assert "var(--s1)" in drawn_run.source


def test_the_same_folder_gives_the_same_bytes(run: Path, drawn_run: Page, drawn) -> None:
    assert drawn(run).source == drawn_run.source


def test_hostile_names_are_texts(tmp_path: Path, drawn) -> None:
    sites = [name.replace("/", "∕").replace("\x07", "")[:60] for name in HOSTILE]
    page = drawn(run_folder(tmp_path / "run", sites=sites, classes=HOSTILE))
    for name in (
        "<script>alert(1)</script>", "a & b \"quoted\" 'x'", "{{7*7}}", "שלום עולם", "👩‍⚕️ clinic 🏥",
        '"><img src=x onerror=alert(1)>',
    ):  # fmt: skip
        assert name in page.text
    assert "fill: #fe0001" in page.text, "a name is no colour"
    assert "x" * 300 not in page.source, "shortened"
    assert not set("\u202e\x07") & set(page.source)
    assert "img" not in page.tags()


def test_ticks_say_where_they_are(iid_tables: Path, drawn) -> None:
    """At steps of 2.5 points they would be labelled 75, 78, 80, 82 %."""
    steps = {name: 0.74 + 0.021 * i for i, name in enumerate(("dp-sgd ε=0.5", "dp-sgd ε=1", "dp-sgd ε=8"))}
    altered(
        iid_tables,
        lambda row: {**row, "accuracy": str(steps.get(row["method"], 0.94)), "accuracy_interval": ""},
    )
    labels = drawn(iid_tables).figures["Accuracy against ε, iid"].labels
    ticks = [float(label.removesuffix(" %")) for label in labels if re.fullmatch(r"\d[\d.]* %", label)]
    assert len(ticks) > 3
    assert np.ptp(np.diff(ticks)) < 1e-9


def _hundred_sites(home: Path) -> list[Path]:
    classes = [f"species {i}" for i in range(200)]
    return [run_folder(home / "big", sites=[f"hospital-{i}" for i in range(100)], classes=classes)]


@pytest.mark.full
def test_a_hundred_sites_and_two_hundred_classes_are_shortened_with_a_note(tmp_path: Path, drawn) -> None:
    page = drawn(*_hundred_sites(tmp_path))
    sites, partition = (page.sections[key] for key in ("sites", "partition"))
    assert any(
        len(figure.table.rows) == 50 for figure in (*sites.figures.values(), *partition.figures.values())
    )
    assert page.says("50 of 100 rows", "summary.json")
    [confusion] = page.sections["confusion"].figures.values()
    assert len(confusion.table.rows) == 20
    assert page.sections["confusion"].says("20", "summary.json")
    assert len(page.source) < 500_000


@pytest.mark.full
def test_many_runs_are_drawn_with_the_best_told_apart(run: Path, tmp_path: Path, drawn) -> None:
    folders = [shutil.copytree(run, tmp_path / f"run-{i}") for i in range(60)]
    page = drawn(*folders)
    assert page.sections["accuracy"].says("6 best", "54")
    assert len(page.figures["Accuracy by round"].colours) == 6
    [runs] = page.sections["runs"].tables.values()
    assert len(runs.rows) == 50
    assert page.sections["runs"].says("50 of 60 rows")


def _private(home: Path) -> list[Path]:
    return [
        run_folder(home / "run", privacy={}, dp="image", epsilon=2.0, weighting="uniform", classes=["a", "b"])
    ]


def _baselines(home: Path) -> list[Path]:
    return [baselines_alone(benchmark_folder(home / "bench", ("iid",), 1))]


def _without_epsilon(home: Path) -> list[Path]:
    return [altered(benchmark_folder(home / "bench", ("iid",), 1), lambda row: {**row, "epsilon": ""})]


def _wide_intervals(home: Path) -> list[Path]:
    wide = {"accuracy": "0.97", "accuracy_interval": "0.1"}
    return [altered(benchmark_folder(home / "bench", ("iid",), 1), lambda row: {**row, **wide})]


@pytest.mark.full
@pytest.mark.parametrize(
    ("made", "figures"),
    [
        (_private, 2),
        (lambda home: [run_folder(home / "run", simulated=False)], 4),
        (lambda home: [run_folder(home / f"seed-{i}", seed=i) for i in range(2)], 3),
        (lambda home: [benchmark_folder(home / "bench", ("iid",), 2)], 4),
        (_baselines, 1),
        (_without_epsilon, 3),
        (_wide_intervals, 4),
        (lambda home: [audit_folder(home / "audit", broken=True)], 7),
        (lambda home: [audit_of_a_run(home / "audit")], 1),
        (lambda home: [with_more_images(home / "audit")], 3),
    ],
    ids=[
        "private", "deployment", "two seeds", "benchmark of two seeds", "baselines", "no ε", "wide intervals",
        "refuted", "audit of a run", "two numbers of images",
    ],
)  # fmt: skip
def test_every_kind_of_folder_is_drawn(
    made: Callable[[Path], list[Path]], figures: int, tmp_path: Path, drawn
) -> None:
    page = drawn(*made(tmp_path))
    assert len(page.figures) == figures
    assert all(figure.labels for figure in page.figures.values())
