"""Flower's own simulation engine with the same apps, and sites whose process dies or hangs."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.serverapp import Grid
from waiting import patient

from fedtransfer.client.app import app as client_app
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.wire.protocol import TRAIN
from fedtransfer.server.app import make_app
from fedtransfer.server.sites import exchange as exchanges
from fedtransfer.server.sites.exchange import exchange
from fedtransfer.simulations.data.sites import write_sites
from fedtransfer.simulations.engines.ray import run_on_ray
from fedtransfer.simulations.federation import prepare, run_on_engine

pytestmark = [  # Ray itself is not imported here: the other tests are collected with these, and it takes long
    pytest.mark.run,
    pytest.mark.skipif(find_spec("ray") is None, reason="Flower's simulation extra is not installed"),
]

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def prepared(tmp_path: Path, folder_of_classes):
    """Prepare four sites, and return their manifests and a config for a run folder."""
    from fedtransfer.common.data.sources import read_source

    images = read_source(folder_of_classes(24)).images

    def make(out: str, **settings: object) -> tuple[dict[str, Path], RunConfig]:
        config = RunConfig(data="images", sites=4, out=str(tmp_path / out), threads=1, **settings)
        manifests = write_sites(tmp_path / out, config, {f"site-{k}": images[k::4] for k in range(4)})
        return manifests, config

    return make


def arrays(out: str | Path) -> list[np.ndarray]:
    path = Path(out)
    with np.load(path if path.suffix == ".npz" else path / "head.npz") as file:
        return [file[name] for name in sorted(file.files) if name.startswith("array")]


@pytest.mark.parametrize(
    ("settings", "phases"),
    [
        (
            {"strategy": "scaffold", "fraction": 0.5, "personal_epochs": 1, "init": "fed3r",
             "standardise": "federated"},
            {"sums", "trial", "personal"},
        ),
        pytest.param({"trainable": "conv5_block2", "learning_rate": 0.3}, set(), marks=pytest.mark.full),
    ],
    ids=["every kind of message, and the state of sites", "deep"],
)  # fmt: skip
def test_ray_and_in_process_agree(prepared, settings: dict[str, Any], phases: set[str]) -> None:
    folders = []
    for engine in ("inprocess", "ray"):
        manifests, config = prepared(engine, engine=engine, rounds=3, **settings)
        run_on_engine(make_app(), manifests, config)
        with (Path(config.out) / "history.csv").open() as file:
            present = {row["phase"]: row["sites_present"] for row in csv.DictReader(file)}
        assert present.keys() == {"train", "score"} | phases
        assert (present["train"], present["score"]) == ("2" if "fraction" in settings else "4", "4")
        folders.append(Path(config.out))
    here, there = ({path.relative_to(folder) for path in folder.rglob("*.npz")} for folder in folders)
    heads = {path for path in here if path.name.endswith("head.npz")}
    assert heads == {path for path in there if path.name.endswith("head.npz")}
    assert len(heads) == 2 + 4 * (1 + ("personal" in phases)), (
        "the run's best and last, and at each site what it keeps"
    )
    for path in heads:
        for a, b in zip(*(arrays(folder / path) for folder in folders), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, err_msg=str(path))
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    for key in ("accuracy", "best_round", "personal", "one_shot"):
        assert summaries[0].get(key) == summaries[1].get(key)


class Mishap:
    """The real ClientApp, but one site's process dies once, and another's hangs in one round."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def __call__(self, message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        if message.metadata.message_type == "train":
            if number == 1 and self._first("died"):
                os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
            if number == 2 and (self._scratch / "died").exists() and self._first("hung"):
                threading.Event().wait()  # for ever
        if message.metadata.message_type == "train" and number == 3:
            os._exit(9)  # every time, and again when the message is given once more
        return client_app(message, context)

    def _first(self, name: str) -> bool:
        try:
            (self._scratch / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _soon_in_training(
    grid: Grid, nodes: Mapping[str, int], contents: Mapping[str, Any], kind: str, timeout: float,
    group_id: str,
) -> Any:  # fmt: skip
    return exchange(grid, nodes, contents, kind, patient(120.0) if kind == TRAIN else timeout, group_id)


@pytest.mark.full
def test_sites_that_die_or_hang_are_told_in_words_and_the_run_goes_on(
    prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))  # workers import this module
    # Only training is cut short: the first query waits until workers have loaded TensorFlow.
    monkeypatch.setattr(exchanges, "exchange", _soon_in_training)
    manifests, config = prepared("mishap", engine="ray", rounds=3, min_sites=2)
    config = config.model_copy(update={"prepared": config.out})
    run_on_ray(make_app(), Mishap(tmp_path), len(manifests), config)
    with (Path(config.out) / "sites.csv").open() as file:
        status = {(row["round"], row["site"]): row["status"] for row in csv.DictReader(file)}
    assert status["1", "site-0"] == "ok"
    assert status["1", "site-1"] == "ok", "killed once: its message is given once more"
    assert {status[r, "site-2"] for r in "123"} >= {"ok", "did not answer in time"}
    for r in "123":
        assert "its worker died" in status[r, "site-3"], status


def test_ray_says_what_it_lacks(prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: None)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0, "memory": 1e9})
    manifests, config = prepared("greedy", engine="ray", client_cpus=1e4)
    with pytest.raises(UserError, match=r"10000 CPU \(there are 2\).*--client-cpus"):
        run_on_engine(make_app(), manifests, config)


@pytest.mark.full
def test_flwr_run_works_from_a_clean_copy_without_network(tmp_path: Path, folder_of_classes) -> None:
    """As the README says it, in an empty FLWR_HOME, with every proxy a dead end."""
    copy, home, folder = tmp_path / "copy", tmp_path / "home", tmp_path / "prepared"
    copy.mkdir()
    home.mkdir()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split() if listed.returncode == 0 else []
    if not names:
        pytest.skip("not a git clone")
    for name in names:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    config = RunConfig(data=str(folder_of_classes(24)), sites=3, rounds=3, partition="iid")
    assert prepare(config, folder) == 3
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    dead = "http://127.0.0.1:9"
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0",
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": port,
        "http_proxy": dead, "https_proxy": dead, "no_proxy": "127.0.0.1,localhost",
    }  # fmt: skip
    size = "num-supernodes=3 client-resources-num-cpus=1"
    command = [
        "flwr",
        "run",
        str(copy),
        "--run-config",
        str(folder / "config.toml"),
        "--federation-config",
        size,
    ]
    try:
        done = subprocess.run(
            [*command, "--stream"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=patient(400),
            cwd=home,
        )
        assert (folder / "run" / "summary.json").exists(), done.stdout[-3000:] + done.stderr[-3000:]
    finally:
        listing = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True).stdout
        for pid in re.findall(
            rf"^\s*(\d+) .*flower-superlink.*{re.escape(str(home))}", listing, re.MULTILINE
        ):
            os.kill(int(pid), signal.SIGTERM)
    manifests = {name: folder / "sites" / name / "images.csv" for name in ("site-0", "site-1", "site-2")}
    run_on_engine(make_app(), manifests, config.model_copy(update={"out": str(tmp_path / "here")}))
    for a, b in zip(arrays(str(folder / "run")), arrays(str(tmp_path / "here")), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
