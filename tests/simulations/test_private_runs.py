"""Whole private simulations: what folders and screens say, and what a simulation alone knows."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fedtransfer.client.data import prepare_site
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.features.feature_map import feature_map
from fedtransfer.common.head.head import load_head
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import Result, simulate
from fedtransfer.simulations.report.page import write_report
from fedtransfer.simulations.report.texts import epsilon

pytestmark = pytest.mark.run
CLASSES = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
SITE = {
    "dp": "site", "noise_multiplier": 1.0, "clip": 0.3, "weighting": "uniform", "sampling": "poisson",
    "fraction": 0.5, "classes": "declared", "class_names": CLASSES, "baselines": False,
}  # fmt: skip


def run(out: Path, **settings: object) -> tuple[Result, str]:
    with (out.parent / "screen.txt").open("w+") as file:
        display = Display(Console(file=file, width=200))
        result = simulate(RunConfig(out=str(out), models=False, **settings), display)
        display.summary(result.summary, result.baselines)
        file.seek(0)
        return result, file.read()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, str]:
    """A short run on the bundled images."""
    return run(tmp_path_factory.mktemp("runs") / "private", rounds=5, log_json="", **SITE)


def test_the_summary_says_what_is_promised_and_nothing_that_is_not_known(private: tuple[Result, str]) -> None:
    result, _ = private
    summary = json.loads((result.folder / "summary.json").read_text())
    for key in (
        "accuracy",
        "loss",
        "macro_f1",
        "worst_site_accuracy",
        "confusion_matrix",
        "images",
        "scored_on",
    ):
        assert summary[key] is None, key
    assert summary["images_by_split"] == summary["site_accuracy"] == summary["sites_left_out"] == {}
    told = summary["privacy"]
    assert {
        "epsilon",
        "delta",
        "unit",
        "neighbours",
        "sampling",
        "noise_multiplier",
        "clip",
        "releases",
        "trust",
        "budget",
    } <= set(told)
    assert (told["unit"], told["releases"], told["sampling"], told["clip"]) == (
        "site",
        5,
        "Poisson, 0.5",
        0.3,
    )
    assert summary["best_round"] == 6
    with (result.folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == list("12345")
    assert all(float(row["epsilon"]) > 0 and row["accuracy"] == row["sites_present"] == "" for row in rows)
    assert (result.folder / "sites.csv").read_text().count("\n") == 1
    assert len((result.folder / "run-privacy.jsonl").read_text().splitlines()) == 5


def test_its_report_promises_what_the_summary_does(private: tuple[Result, str], tmp_path: Path) -> None:
    result, _ = private
    told = result.summary["privacy"]
    write_report([result.folder], tmp_path / "report.html", "")
    page = (tmp_path / "report.html").read_text("utf-8").replace("\u00a0", " ")
    for words in (f"ε = {epsilon(told['epsilon'])}", "δ = 10⁻⁵", told["unit"], told["neighbours"]):
        assert words in page
    assert '<section id="confusion"' not in page


def test_the_head_is_measured_outside_the_federation(private: tuple[Result, str]) -> None:
    result, _ = private
    config = RunConfig(**SITE)
    head, classes, _ = load_head(result.folder / "head.npz")
    right, accuracies, losses, by_class = [], {}, [], {name: [] for name in classes}
    for manifest in sorted(result.folder.glob("sites/*/images.csv")):
        site = prepare_site(read_source(manifest).images, config)
        x = feature_map(config, load_backbone(BUNDLED))(site.raw("test"))
        scores = (x @ head[0] + head[1]).astype(np.float64)
        y = np.array([classes.index(label) for label in site.labels["test"]])
        hits = scores.argmax(1) == y
        right += hits.tolist()
        accuracies[manifest.parent.name] = float(hits.mean())
        losses += (np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]).tolist()
        for label, hit in zip(site.labels["test"], hits, strict=True):
            by_class[label].append(hit)
    told = result.summary["measured_outside_the_federation"]
    assert told["accuracy"] == pytest.approx(np.mean(right))
    assert told["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert told["balanced_accuracy"] == pytest.approx(np.mean([np.mean(hits) for hits in by_class.values()]))
    assert told["site_accuracy"] == pytest.approx(accuracies)
    assert told["worst_site_accuracy"] == pytest.approx(min(accuracies.values()))
    assert told["mean_site_accuracy"] == pytest.approx(np.mean(list(accuracies.values())))


def test_the_screen_says_it_in_words(private: tuple[Result, str]) -> None:
    result, screen = private
    told = result.summary["privacy"]
    [promise] = [line for line in screen.splitlines() if f"epsilon {told['epsilon']:.3g}" in line]
    for words in (
        "1e-05",
        "site",
        told["neighbours"],
        "Poisson, 0.5",
        "5 releases",
        "noise multiplier 1",
        "clip 0.3",
    ):
        assert words in promise
    assert (
        "epsilon"
        in screen.splitlines()[next(i for i, line in enumerate(screen.splitlines()) if "val. loss" in line)]
    )
    assert "nan" not in screen.lower()
    [warning] = [text for text in result.summary["warnings"] if "drown" in text]
    assert " ".join(warning.split()) in " ".join(screen.split())
    assert "--public-data" in screen
    assert "federated *" in screen
    assert not [line for line in screen.splitlines() if line.strip().startswith("federated ") and "–" in line]


def test_public_images_score_it_and_a_budget_ends_it(tmp_path: Path) -> None:
    result, screen = run(
        tmp_path / "run", rounds=60, epsilon=8.0, public_data="cifar10-demo", **SITE | {"baselines": True}
    )
    summary = result.summary
    assert summary["scored_on"] == "public-data"
    assert np.sum(summary["confusion_matrix"]) == 3000
    assert summary["accuracy"] == pytest.approx(np.trace(summary["confusion_matrix"]) / 3000)
    assert summary["privacy"]["stopped_by_budget"]
    assert summary["privacy"]["epsilon"] <= 8
    assert summary["rounds"] < 60
    assert f"stopped after {summary['rounds']} of 60 rounds" in screen
    assert "--public-data" not in screen
    assert summary["measured_outside_the_federation"]["accuracy"] * 1000 == pytest.approx(
        round(summary["measured_outside_the_federation"]["accuracy"] * 1000)
    ), "of 1000 test images"


def test_one_release_of_sums_has_a_row(tmp_path: Path) -> None:
    settings = {key: SITE[key] for key in ("classes", "class_names", "baselines")}
    _, screen = run(tmp_path / "run", dp="image", epsilon=2.0, strategy="fedncm", **settings)
    (row,) = (line for line in screen.splitlines() if line.startswith("sums"))
    assert row.split()[-1] == "2"
    assert ", 1 release, " in screen


def test_without_privacy_nothing_is_measured_outside(tmp_path: Path) -> None:
    result, screen = run(tmp_path / "run", rounds=1, baselines=False)
    assert "measured_outside_the_federation" not in result.summary
    assert "privacy" not in result.summary
    assert result.summary["scored_on"] == "sites"
    assert "epsilon" not in screen
