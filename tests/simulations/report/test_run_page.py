"""The page about one run: what it answers, and what it leaves out where nothing is known."""

import json
from pathlib import Path

from report_folders import run_folder
from report_pages import Page


def test_a_run_is_answered_in_words_and_shown_in_order(run: Path, run_page: Page) -> None:
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    good, private, cost = run_page.answer
    accuracy = f"{100 * summary['accuracy']:.1f} %"
    assert good.number == accuracy
    assert good.says(accuracy, f"{sum(map(sum, summary['confusion_matrix']))} test images", "5 sites")
    assert good.says("68.4 %", "30.5 %", "10.0 %"), "baselines"
    assert "ε" not in private.number
    assert cost.says("129 KB", "133 KB", "12 rounds")
    assert list(run_page.sections) == [
        "answer", "accuracy", "sites", "partition", "confusion", "bytes", "configuration", "repeat",
        "versions",
    ]  # fmt: skip
    settings = [row for table in run_page.sections["configuration"].tables.values() for row in table.rows]
    assert [[*row.values()] for row in settings if row["setting"].startswith("●")] == [
        ["● learning-rate", "2.5", "4"],
        ["● rounds", "12", "100"],
    ]
    repeat = run_page.sections["repeat"]
    assert repeat.code == [
        f"fedtransfer simulate --config {run}/config.toml",
        "fedtransfer simulate --learning-rate 2.5 --rounds 12",
    ]
    assert summary["backbone"]["fingerprint"] in repeat.text
    [versions] = run_page.sections["versions"].tables.values()
    assert {"Python", "fedtransfer", "flwr", "numpy"} <= set(versions.names)
    assert 'lang="en"' in run_page.source


def test_sites_that_do_better_alone_are_counted(run: Path, run_page: Page) -> None:
    own = json.loads((run / "summary.json").read_text("utf-8"))["site_accuracy"]
    good, *_ = run_page.answer
    assert good.says(f"{sum(accuracy < 0.6 for accuracy in own.values())} of 5 sites", "alone")
    assert (
        run_page.sections["sites"].figures["Accuracy by site"].table["site-0"]["the site alone"] == "60.0 %"
    )


def test_differential_privacy_is_told_exactly_and_scores_from_outside_as_such(tmp_path: Path, words) -> None:
    page = words(
        run_folder(
            tmp_path / "p", privacy={}, dp="image", epsilon=2.0, weighting="uniform", classes=["cat", "dog"]
        )
    )
    good, private, _ = page.answer
    assert private.number == "ε = 2"
    assert private.says("ε = 2", "10⁻⁵", "one image", "add or remove one image")
    assert good.says("outside", "federation")
    assert "accuracy" not in page.sections, "no round's accuracy is known"
    assert "confusion" not in page.sections


def test_scores_on_public_images_are_not_taken_for_those_of_the_sites(tmp_path: Path, words) -> None:
    folder = run_folder(tmp_path / "run", privacy={}, dp="image", epsilon=2.0, weighting="uniform")
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    matrix = [[40, 5, 5], [5, 40, 5], [5, 5, 40]]
    public = {"accuracy": 0.8, "scored_on": "public-data", "confusion_matrix": matrix}
    (folder / "summary.json").write_text(json.dumps({**summary, **public}), "utf-8")
    good, *_ = words(folder).answer
    outside = f"{100 * summary['measured_outside_the_federation']['accuracy']:.1f} %"
    assert good.number == outside
    assert good.says(outside, "5 sites")
    assert not good.says(outside, "public")
    assert good.says("80.0 %", "public images")
    assert "interval" not in good.text, "of how many images it is the share is not known"


def test_personal_heads_and_sites_that_took_no_part_are_tabled(tmp_path: Path, words) -> None:
    folder = run_folder(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    scores = {"mean": 0.7, "worst": 0.5, "pooled": 0.68}
    mixed = {**scores, "mean": 0.777, "worse_than_global": 0.2, "worse_than_local": None}
    summary["personal"] = {
        "sites": 5,
        "share": 0.4,
        **dict.fromkeys(("global", "local", "fine_tuned"), scores),
    }
    summary["personal"]["mixed"] = mixed
    adapted = {"5": {"images": 15.0, "accuracy": 0.61, "from_scratch": 0.345, "got_worse": 0.5}}
    summary["unseen_sites"] = {"names": ["x"], "sites": 1, "epochs": 2, "global": 0.55, "adapted": adapted}
    (folder / "summary.json").write_text(json.dumps(summary), "utf-8")
    section = words(folder).sections["adaptation"]
    personal, unseen = section.tables.values()
    assert personal.names == ["global", "local", "fine-tuned", "mixed"]
    assert [*personal["mixed"].values()][1:] == ["77.7 %", "50.0 %", "68.0 %", "20.0 %", "—"]
    assert [[*row.values()] for row in unseen.rows] == [
        ["none", "55.0 %", "", ""],
        ["5", "61.0 %", "34.5 %", "50.0 %"],
    ]
    assert section.says("0.40")
    assert section.says("1 site", "2 epochs")


def test_a_deployment_s_run_folder_has_no_sites_and_no_baselines(tmp_path: Path, words) -> None:
    page = words(run_folder(tmp_path / "run", simulated=False))
    assert "partition" not in page.sections
    assert page.sections["sites"].figures["Accuracy by site"].table.columns == ("site", "federation's head")
    assert "simulated" not in page.text
    assert "in one place" not in page.text
