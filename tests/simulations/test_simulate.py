"""Whole federations on real images, in process."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_network import moved

from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.backbone.networks import small_resnet
from fedtransfer.common.config.config import BUNDLED, RunConfig, resolve_config
from fedtransfer.common.data.images import decode
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import load_head
from fedtransfer.common.head.model import keras_model, load_model
from fedtransfer.common.tensorflow import keras
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import Result, default_folder, simulate
from fedtransfer.simulations.report.page import write_report

pytestmark = pytest.mark.run

FILES = {
    "config.toml",
    "history.csv",
    "sites.csv",
    "summary.json",
    "model.keras",
    "head.npz",
    "last-model.keras",
    "last-head.npz",
    "checkpoints",
    "curves.png",
    "partition.png",
    "tensorboard",
    "sites",
}


def run(out: Path, *, force: bool = False, models: bool = False, **settings: object) -> Result:
    """Run a federation; its models take half a second, so only where they are looked at."""
    console = Console(file=(out.parent / "screen.txt").open("a"))
    return simulate(RunConfig(out=str(out), models=models, **settings), Display(console), force=force)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A short run on the bundled images."""
    return run(tmp_path_factory.mktemp("runs") / "demo", rounds=6, models=True)


def test_run_folder_and_summary(demo: Result) -> None:
    assert {path.name for path in demo.folder.iterdir()} == FILES
    summary = json.loads((demo.folder / "summary.json").read_text())
    assert summary == demo.summary
    assert summary["rounds"] == 6
    assert summary["sites"] == 10
    assert summary["images"] == 3000
    assert summary["images_by_split"]["test"] == 1000
    assert summary["seed"] == 0
    for key in ("accuracy", "macro_precision", "macro_recall", "macro_f1", "worst_site_accuracy"):
        assert 0 < summary[key] < 1
    assert set(summary["baselines"]) == {"pooled", "local_mean", "local_worst", "majority"}
    alone = summary["baselines_on_own_test_images"]
    assert set(alone["local"]) == set(summary["site_accuracy"])
    assert np.mean([*alone["local"].values()]) == pytest.approx(alone["local_mean"])
    assert set(summary["seconds"]) == {"features", "rounds", "total"}
    assert set(summary["features"]) == {"extracted", "reused"}
    assert summary["backbone"] == {
        "name": BUNDLED,
        "fingerprint": load_backbone(BUNDLED).fingerprint,
        "resolution": 64,
    }
    head = 4 * 257 * 10
    assert head < summary["bytes_up_per_site_round"] < head + 2048
    assert head < summary["bytes_down_per_site_round"] < head + 2048
    assert len(list((demo.folder / "tensorboard").iterdir())) == 1


def test_history_and_sites_have_a_row_for_each(demo: Result) -> None:
    history = table(demo.folder / "history.csv")
    assert [row["phase"] for row in history] == ["train"] * 6 + ["score"]
    assert float(history[0]["accuracy"]) == pytest.approx(0.1, abs=0.01), "the head entering round 1 is zero"
    sites = table(demo.folder / "sites.csv")
    assert len(sites) == 70
    assert {row["status"] for row in sites} == {"ok"}
    for number, row in enumerate(history, 1):
        mine = [site for site in sites if int(site["round"]) == number]
        right = sum(float(site["accuracy"]) * int(site["test_images"]) for site in mine)
        assert float(row["accuracy"]) == pytest.approx(right / 1000, abs=1e-4)


def test_the_best_head_by_validation_is_what_everyone_holds(demo: Result) -> None:
    history = table(demo.folder / "history.csv")
    best = min(history, key=lambda row: float(row["validation_loss"]))
    assert demo.summary["best_round"] == int(best["round"])
    assert demo.summary["accuracy"] == pytest.approx(float(best["accuracy"]), abs=1e-6)
    head = (demo.folder / "head.npz").read_bytes()
    held = [path.read_bytes() for path in demo.folder.glob("sites/*/head.npz")]
    assert held == [head] * 10


def test_same_command_same_bits_and_no_image_extracted_again(demo: Result, tmp_path: Path) -> None:
    for threads in (1, 2, 3):
        again = run(tmp_path / f"threads-{threads}", rounds=6, threads=threads, baselines=False)
        assert (again.folder / "head.npz").read_bytes() == (demo.folder / "head.npz").read_bytes()
        assert again.summary["features"] == {"extracted": 0, "reused": 3000}
        for row, other in zip(
            table(again.folder / "history.csv"), table(demo.folder / "history.csv"), strict=True
        ):
            times = {"seconds": "", "seconds_aggregating": ""}
            assert row | times == other | times
            assert 0 <= float(row["seconds_aggregating"]) <= float(row["seconds"])
    other = run(tmp_path / "seed", rounds=6, seed=1, baselines=False)
    assert (other.folder / "head.npz").read_bytes() != (demo.folder / "head.npz").read_bytes()


def test_a_run_is_repeated_from_its_config(demo: Result, tmp_path: Path) -> None:
    config = resolve_config(file=demo.folder / "config.toml", overrides={"out": str(tmp_path / "again")})
    again = simulate(config, Display(Console(quiet=True)))
    assert (again.folder / "head.npz").read_bytes() == (demo.folder / "head.npz").read_bytes()
    assert (again.folder / "config.toml").read_bytes() == (demo.folder / "config.toml").read_bytes()


def test_model_agrees_with_the_run(demo: Result) -> None:
    """The exported model on decoded images against head on stored features."""
    from fedtransfer.common.features.extraction import extract, open_store
    from fedtransfer.common.features.feature_map import feature_map
    from fedtransfer.simulations.data.datasets import resolve_data

    backbone, model = load_backbone(BUNDLED), load_model(demo.folder)
    images = [image for image in read_source(resolve_data("cifar10-demo")).images if image.split == "test"][
        :200
    ]
    store = open_store(backbone)
    keys = [key for key in extract(store, backbone, images).keys if key]
    head, classes, _ = load_head(demo.folder / "head.npz")
    scores = feature_map(RunConfig(), backbone)(store.read(keys)) @ head[0] + head[1]
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose([model.predict(decode(image.read())) for image in images], expected, atol=1e-5)
    batch = np.stack([decode(image.read()) for image in images[:8]])
    by_keras = keras_model(demo.folder / "model.keras")
    np.testing.assert_allclose(by_keras(batch.astype(np.float32)), expected[:8], atol=1e-5)
    assert model.classes == classes


def test_defaults_federate_well(tmp_path: Path) -> None:
    """Within 3 points of pooled and at least 5 above training alone, on the common test set."""
    summary = run(tmp_path / "default").summary
    assert summary["accuracy"] > summary["baselines"]["pooled"] - 0.03
    assert summary["accuracy"] > summary["baselines"]["local_mean"] + 0.05
    assert summary["baselines"]["majority"] == pytest.approx(0.1)


def test_plain_fedavg_partial_participation_and_a_hidden_layer(tmp_path: Path) -> None:
    settings = {"server_momentum": 0.0, "server_learning_rate": 1.0, "fraction": 0.3, "hidden_units": 16,
                "dropout": 0.1, "l2": 1e-4, "optimizer": "adam", "learning_rate": 0.01, "rounds": 8,
                "local_epochs": 3, "patience": 1, "partition": "pathological",
                "classes_per_site": 5}  # fmt: skip
    result, again = run(tmp_path / "one", **settings), run(tmp_path / "two", **settings, baselines=False)
    assert (result.folder / "head.npz").read_bytes() == (again.folder / "head.npz").read_bytes()
    sites = table(result.folder / "sites.csv")
    assert [sum(int(row["round"]) == number for row in sites) for number in range(1, 10)] == [3] * 8 + [10]
    assert result.summary["accuracy"] > 0.25


def test_folders_of_sites(tmp_path: Path, folder_of_classes) -> None:
    for seed, site in enumerate(("Klinik Süd", "north"), 1):
        folder_of_classes(20, f"hospitals/{site}", seed)
    broken = tmp_path / "hospitals" / "north" / "red" / "broken.png"
    broken.write_bytes(b"no")
    (tmp_path / "hospitals" / "notes.txt").write_text("no")
    result = run(tmp_path / "run", data=str(tmp_path / "hospitals"), partition="natural", rounds=10)
    assert set(result.summary["site_accuracy"]) == {"Klinik Süd", "north"}
    assert result.summary["accuracy"] > 0.9, "three colours are told apart"
    assert [(Path(problem.path).name, problem.reason[:12]) for problem in result.problems] == [
        ("notes.txt", "not inside a"),
        ("broken.png", "not an image"),
    ]
    assert result.summary["images_unreadable"] == 2
    with pytest.raises(UserError, match=r"broken\.png: not an image"):
        run(tmp_path / "strict", data=str(tmp_path / "hospitals"), partition="natural", strict=True)


@pytest.mark.full
def test_four_domains(pacs: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "pacs", data=str(pacs), partition="natural", rounds=30)
    assert set(result.summary["site_accuracy"]) == {"art_painting", "cartoon", "photo", "sketch"}
    assert result.summary["accuracy"] > result.summary["baselines"]["local_mean"] + 0.05


def test_a_network_of_ones_own(tmp_path: Path, folder_of_classes) -> None:
    """The whole path of a file, with a small random network whose features have another scale."""
    moved(small_resnet((4, 6, 8))).save(tmp_path / "own.keras")
    result = run(
        tmp_path / "run", data=str(folder_of_classes(10)), backbone=str(tmp_path / "own.keras"),
        resolution=32, sites=2, min_images=3, alpha=100.0, rounds=3, models=True,
    )  # fmt: skip
    assert (result.summary["backbone"]["name"], result.summary["backbone"]["resolution"]) == ("own", 32)
    _agrees_with_its_head(result, 8)


@pytest.mark.full
def test_resnet50v2_at_224_from_a_local_file(tmp_path: Path, folder_of_classes) -> None:
    """Random weights saved to a file exercise the whole path."""
    keras.utils.set_random_seed(0)
    weights = tmp_path / "resnet50v2.weights.h5"
    keras.applications.ResNet50V2(include_top=False, weights=None, pooling="avg").save_weights(weights)
    result = run(
        tmp_path / "run", data=str(folder_of_classes(8)), backbone="resnet50v2", weights=str(weights),
        sites=2, min_images=3, alpha=100.0, rounds=3, baselines=False, models=True,
    )  # fmt: skip
    assert (result.summary["backbone"]["name"], result.summary["backbone"]["resolution"]) == (
        "resnet50v2",
        224,
    )
    _agrees_with_its_head(result, 2048)


def _agrees_with_its_head(result: Result, width: int) -> None:
    arrays, _, _ = load_head(result.folder / "head.npz")
    assert arrays[0].shape == (width, 3)
    assert load_model(result.folder).predict(np.zeros((50, 80, 3), np.uint8)).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": "no-such-place"}, r"--data: got 'no-such-place'.*cifar10-demo, cifar10, cifar100"),
        ({"partition": "natural", "data": "{tmp}/images/red"}, "has 0 folders in it"),
        ({"partition": "natural"}, r"cifar10-demo\.npz is not a folder"),
        ({"data": "{tmp}/one"}, r"one class only \(red\)"),
    ],
)
def test_data_that_cannot_be_federated(tmp_path: Path, folder_of_classes, settings: dict, words: str) -> None:
    (tmp_path / "one").mkdir()
    (folder_of_classes(3) / "red").rename(tmp_path / "one" / "red")
    (tmp_path / "images" / "red").mkdir()
    with pytest.raises(UserError, match=words):
        run(tmp_path / "run", **{key: value.format(tmp=tmp_path) for key, value in settings.items()})
    assert not (tmp_path / "run").exists(), "nothing is left behind by a run that did not start"


def test_force_replaces_a_run_only_by_one_that_starts(tmp_path: Path, folder_of_classes) -> None:
    def again(**settings: Any) -> Result:
        return run(
            tmp_path / "run", data=str(data), baselines=False, **{"sites": 2, "alpha": 9.0, **settings}
        )

    data = folder_of_classes(24)
    again(rounds=1)
    with pytest.raises(UserError, match="already exists"):
        again(rounds=1)
    with pytest.raises(UserError, match="too few"):
        again(sites=5000, force=True)
    assert (tmp_path / "run" / "head.npz").exists()
    assert again(rounds=2, force=True).summary["rounds"] == 2


def test_a_stopped_run_says_how_to_go_on(
    tmp_path: Path, folder_of_classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedtransfer.simulations.federation.run_on_engine", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", data=str(folder_of_classes(24)), sites=2, alpha=100.0)
    told = (tmp_path / "screen.txt").read_text().replace("\n", "").replace(" ", "")
    assert f"fedtransfersimulate--resume{tmp_path}/run" in told


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(15):
            (tmp_path / "data" / label / f"{i}.jpg").write_text("no")
    with pytest.raises(UserError, match=r"none of the 30 images .* can be read"):
        run(tmp_path / "run", data=str(tmp_path / "data"), sites=2, alpha=100.0)


def test_the_screen_of_a_run_that_is_no_terminal(demo: Result) -> None:
    screen = (demo.folder.parent / "screen.txt").read_text()
    extracted = demo.summary["features"]["extracted"]  # none where a run of another file has had these images
    assert (f"Features: {extracted} of {extracted} images" in screen) == (extracted > 0)
    for number in range(1, 7):
        assert re.search(rf"^ +{number}  ", screen, re.MULTILINE), "a short run shows every round"
    assert "final" in screen


def test_the_report_of_a_run_says_what_its_summary_says(demo: Result, tmp_path: Path) -> None:
    write_report([demo.folder], tmp_path / "report.html", "")
    page = (tmp_path / "report.html").read_text("utf-8")
    for words in (f"{100 * demo.summary['accuracy']:.1f}\u00a0%", "1,000 test images", "10 sites"):
        assert words in page
    for section in (
        "accuracy",
        "sites",
        "partition",
        "confusion",
        "bytes",
        "configuration",
        "repeat",
        "versions",
    ):
        assert f'<section id="{section}"' in page
    assert demo.summary["backbone"]["fingerprint"] in page


def test_runs_of_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(default_folder(RunConfig(data="some/photos.npz")))
        folders[-1].mkdir(parents=True)
    assert len(set(folders)) == 3
    assert all(folder.name.startswith("photos-20") for folder in folders)
