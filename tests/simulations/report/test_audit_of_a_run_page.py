"""The page about an audit of one run, as it ran."""

import csv
from pathlib import Path

import pytest
from report_folders import altered, audit_of_a_run
from report_pages import Page, without_drawings, written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return audit_of_a_run(tmp_path / "my-run" / "audit")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    home = tmp_path_factory.mktemp("audited")
    with without_drawings():
        return written([audit_of_a_run(home / "my-run" / "audit")], home / "report.html")


def test_an_audit_of_a_run_is_about_that_run(page: Page) -> None:
    assert page.title.startswith("Audit of my-run")
    learnt, claims = page.answer
    assert "With ," not in page.text
    assert page.says("the run my-run", "fedavg", "no protection", "cifar10-demo")
    assert claims.says("No ε", "claimed")
    columns = {column for table in page.sections["attacks"].tables.values() for column in table.columns}
    assert "attack" in columns
    assert not {"protection", "images a class"} & columns
    assert page.says("50.0 %", "52.0 %"), "the accuracy of the head in the last round and in the summary"
    assert "glance" not in page.sections
    assert learnt.paragraphs


def test_no_rate_is_told_in_words_where_the_table_declines(page: Page) -> None:
    [figure] = page.sections["roc"].figures.values()
    assert figure.says("1 % false alarms", "too few answers")
    assert figure.says("10 answers", "3.3 %")
    assert "finds most members:" not in page.text
    assert "at 5 %" in figure.table.columns
    assert "at 0.5 %" not in figure.table.columns


def test_what_is_learnt_from_a_run_begins_with_what_is_most_above_its_guess(folder: Path, words) -> None:
    cosines = {"cosine@1": (0.1, 0.24, 1), "cosine@2-5": (0.95, 0.74, 2), "cosine@6+": (0.97, 0.91, 4)}

    def found(row: dict[str, str]) -> dict[str, str]:
        if row["measure"] == "l1":
            return {**row, "value": "0.16", "by_chance": "0.97"}
        numbers = cosines.get(row["measure"], ())
        return row | dict(zip(("value", "by_chance", "count"), map(str, numbers), strict=False))

    learnt, _ = words(altered(folder, found)).answer
    [cosine] = [sentence for sentence in learnt.paragraphs if "cosine" in sentence]
    facts = (
        "2 to 5 images (2 of them)",
        "0.95",
        "0.74",
        "6 images",
        "(4 of them)",
        "0.97",
        "0.91",
        "(1 of them)",
        "0.10",
        "0.24",
    )
    places = [cosine.find(fact) for fact in facts]
    assert -1 not in places
    assert places == sorted(places)
    assert learnt.says("off by 0.16", "by 0.97")


def test_a_run_that_claims_nothing_is_told_what_canaries_show(folder: Path, words) -> None:
    with (folder / "table.csv").open("a", encoding="utf-8", newline="") as file:
        for measure, value in (
            ("right_guesses", 1),
            ("epsilon_lower_bound", 6.344),
            ("most_provable", 6.344),
        ):
            csv.writer(file).writerow(["fedavg", "", "", 0, "one run", measure, value, "", "", "", 1800, ""])
    page = words(folder)
    assert page.says("100.0 % of 1,800 guesses", "ε is above 6.34")
    assert page.says("the bound tests the mechanism")
