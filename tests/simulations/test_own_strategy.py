"""A strategy of the user's own in whole simulations: as an object from Python, and by its name."""

import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from pictures import class_folders
from rich.console import Console

from fedtransfer.common.config.config import RunConfig, read_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import load_head
from fedtransfer.server.strategies.strategy import Strategy
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import simulate

pytestmark = pytest.mark.run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUIET = Display(Console(quiet=True))


def test_the_example_runs_as_an_object_and_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    data = class_folders(tmp_path / "colours", 0, n=20)
    heads = {}

    def run(name: str, given: Strategy | None = None, rounds: int = 3, **settings: object) -> None:
        config = RunConfig(
            data=str(data), out=str(tmp_path / name), sites=4, alpha=2.0, min_images=6, rounds=rounds,
            baselines=False, models=False, **settings,
        )  # fmt: skip
        heads[name] = load_head(simulate(config, QUIET, strategy=given).folder / "last-head.npz")[0]

    agreement = import_module("my_own_strategy").AGREEMENT
    run("fedavg")
    run("name", strategy="my_own_strategy:AGREEMENT")
    run("object", agreement)
    for by_name, as_object, fedavg in zip(heads["name"], heads["object"], heads["fedavg"], strict=True):
        np.testing.assert_array_equal(by_name, as_object)
        assert not np.array_equal(by_name, fedavg)
    assert tomllib.loads((tmp_path / "object" / "config.toml").read_text())["strategy"] == "object:Strategy"

    stopped = read_config(tmp_path / "object" / "config.toml").model_copy(
        update={"resume": True, "rounds": 5}
    )
    with pytest.raises(UserError, match="passed from Python; resume the run there"):
        simulate(stopped, QUIET)
    longer = simulate(stopped, QUIET, strategy=agreement)
    assert longer.summary["rounds"] == 5
