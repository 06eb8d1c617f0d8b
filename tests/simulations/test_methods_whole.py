"""Every method in a whole run: it ends with finite scores, and resumed with the same bits."""

import csv
import json
import math
import tomllib
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from pictures import class_folders
from rich.console import Console
from stopping import Stopped
from typer.testing import CliRunner

from fedtransfer.cli import app
from fedtransfer.client.data import prepare_site
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common import methods
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import decode
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.head.head import head_spec, load_head, load_layer, load_moments
from fedtransfer.common.head.model import load_model
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import simulate

pytestmark = pytest.mark.run

TRAINED = ("head.npz", "last-head.npz")
DEEP = {"trainable": "conv5_block2", "learning_rate": 0.3}
METHODS: dict[str, dict[str, Any]] = {
    **{name: {"strategy": name} for name in methods.METHODS},
    "scaffold-of-cohorts": {"strategy": "scaffold", "cohort_size": 2, "personal_epochs": 1},
    "lda": {"strategy": "fed3r", "lda": True},
    "init-fed3r": {"init": "fed3r"},
    "init-lda": {"init": "fed3r", "lda": True, "strategy": "fedadam", "server_learning_rate": 0.05},
    "init-fedcof-scaffold": {"init": "fedcof", "strategy": "scaffold"},
    "standardise-federated": {"standardise": "federated"},
    "standardise-federated-fedncm": {"standardise": "federated", "strategy": "fedncm", "personal_epochs": 1},
    "project-random": {"project": "random", "dimensions": 16},
    "augment": {"augment": 2},
    "init-standardise": {"init": "fed3r", "standardise": "federated"},
    "rates-and-balance": {
        "class_balance": 0.99, "schedule": "cosine", "personal_epochs": 1,
    },
    "personal-heads": {"personal_epochs": 2},
    "unseen-sites": {"unseen_sites": 1, "sites": 4},
    "conv5_block2": DEEP,
    "conv5_block2-with-all": {
        **DEEP, "personal_epochs": 1, "strategy": "scaffold", "backbone_rate": 1.0,
    },
    "unfreeze": {"unfreeze_at": "3:conv5_block2", "learning_rate": 0.3},
    "unfreeze-init": {
        "unfreeze_at": "2:conv5_block2", "init": "fed3r", "personal_epochs": 1, "learning_rate": 0.3,
    },
    "hidden-units": {"hidden_units": 16, "learning_rate": 2.0, "local_epochs": 10},
    "dropout": {"dropout": 0.3},
    "penalty": {"l2": 1e-3},
    "weight-decay": {"weight_decay": 0.01, "optimizer": "adam", "learning_rate": 0.01},
    "patience": {"patience": 1, "local_epochs": 3},
}  # fmt: skip
# Seconds each, where `unfreeze` shows it in one.
FURTHER = ("conv5_block2", "conv5_block2-with-all", "unfreeze-init")


def each(names: Iterable[str], further: Collection[str]) -> list[ParameterSet]:
    """Return methods as parameters, of which ``further`` are left to `make test-all`."""
    return [pytest.param(name, marks=pytest.mark.full if name in further else ()) for name in names]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("images") / "colours", 0, n=20)


@pytest.fixture
def run(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run a federation of three sites over four rounds, without pictures; return the run folder."""
    for picture in (
        "fedtransfer.server.app.plot_curves",
        "fedtransfer.simulations.federation.plot_partition",
    ):
        monkeypatch.setattr(picture, lambda *_, **__: None)

    def run(name: str, **settings: Any) -> Path:
        common = {"sites": 3, "alpha": 2.0, "min_images": 6, "rounds": 4, "baselines": False, "models": False}
        config = RunConfig(data=str(images), out=str(tmp_path / name), **{**common, **settings})
        return simulate(config, Display(Console(quiet=True))).folder

    return run


def without_times(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What the summary and the history of a run say, but for how long it took."""
    told = json.loads((folder / "summary.json").read_text())
    with (folder / "history.csv").open() as file:
        rows = [
            {key: value for key, value in row.items() if not key.startswith("seconds")}
            for row in csv.DictReader(file)
        ]
    return {key: value for key, value in told.items() if key not in ("seconds", "features")}, rows


def numbers(told: Any) -> list[float]:
    if isinstance(told, dict):
        return [number for value in told.values() for number in numbers(value)]
    return [told] if isinstance(told, float) else []


@pytest.mark.parametrize("method", each(METHODS, FURTHER))
def test_a_run_ends_well_and_a_stopped_one_with_the_same_bits(
    run: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    settings = METHODS[method]
    whole = run("whole", **settings, threads=1)
    told, history = without_times(whole)
    assert all(math.isfinite(value) for value in (told["accuracy"], told["loss"], *numbers(told)))
    assert told["accuracy"] > 0.6, "three colours are told apart, which the largest class alone does not do"
    arrays = [array for file in TRAINED for array in load_head(whole / file)[0]]
    assert all(np.isfinite(array).all() for array in arrays)

    with pytest.raises(Stopped):
        run("stopped", **settings, threads=2, callbacks="stopping:Stop")
    checkpoints = sorted((tmp_path / "stopped" / "checkpoints").glob("round-*"))
    assert checkpoints[-1].name[6:12] == f"{min(2, told['rounds']):06}", (
        "after the sums, there is one of round 0"
    )
    stopped = run("stopped", **settings, threads=2, resume=True)
    for file in (*TRAINED, "sites.csv"):
        assert (stopped / file).read_bytes() == (whole / file).read_bytes(), file
    assert without_times(stopped) == (told, history)


@pytest.mark.parametrize(
    "method",
    each(
        ("standardise-federated", "conv5_block2", "unfreeze", "project-random", "hidden-units"),
        ("unfreeze", "project-random", "hidden-units"),
    ),
)
def test_the_model_says_what_the_head_says_and_the_commands_work_with_it(
    run: Callable[..., Path], images: Path, method: str
) -> None:
    folder = run("run", **METHODS[method], models=True)
    config = RunConfig.model_validate(tomllib.loads((folder / "config.toml").read_text()))
    head, classes, _ = load_head(folder / "head.npz")
    layer = load_layer(folder / "head.npz")
    assert (layer == "head") == (method not in ("conv5_block2", "unfreeze"))
    everything = [replace(image, split="train") for image in read_source(images).images]
    site = prepare_site(everything, config.model_copy(update={"augment": 0}))
    x, y = site.data("train", classes, load_moments(folder / "head.npz"), layer)
    spec = head_spec(config, configured_backbone(config), len(classes), layer)
    with trainer(spec, Recipe.from_config(config)) as t:
        expected = t.predict(head, x)
    model = load_model(folder)
    assert model.classes == classes
    got = np.array([model.predict(decode(image.read())) for image in everything[::5]])
    np.testing.assert_allclose(got, expected[::5], atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 0.01, "it is no model that says the same of all images"

    told = json.loads(command("evaluate", str(folder), str(images), "--split", "all", "--json"))
    assert told["accuracy"] == pytest.approx((expected.argmax(1) == y).mean())
    scored = json.loads(command("evaluate", str(folder), str(images), "--json"))
    summary, _ = without_times(folder)
    assert [scored[key] for key in ("accuracy", "loss")] == pytest.approx(
        [summary["accuracy"], summary["loss"]], abs=1e-4
    )
    [line] = command("predict", str(folder), everything[0].path, "--json").splitlines()
    assert list(json.loads(line)["probabilities"].values()) == pytest.approx(
        sorted(expected[0])[::-1], abs=1e-5
    )


def command(*arguments: str) -> str:
    """Run the command line within this process; return standard output."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout
