"""What the ``deployment`` engine founds; tests/deployment/test_walkthrough.py has it run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedtransfer.client.node import deployed_node
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.wire import protocol
from fedtransfer.simulations.data.sites import write_sites
from fedtransfer.simulations.engines import deployment as deployment_engine


@pytest.mark.process
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"backbone": "/srv/own.keras"},
        {"backbone": "resnet50v2", "weights": "/srv/own.weights.h5"},
        {"standardise": "public", "feature_statistics": "/srv/public.npz"},
    ],
)
def test_its_sites_hold_all_that_the_run_names(
    tmp_path: Path, folder_of_classes: Any, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(
        deployment_engine,
        "spawn",
        lambda *_: subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE),
    )
    monkeypatch.setattr(deployment_engine, "describe", lambda _: {"serving": True})
    monkeypatch.setattr(deployment_engine, "is_up", lambda _: True)
    config = RunConfig(out=str(tmp_path / "run"), engine="deployment", sites=2, **settings)
    images = read_source(folder_of_classes(4)).images
    manifests = write_sites(tmp_path / "run", config, {"a": images[::2], "b": images[1::2]})
    with deployment_engine.deployed(manifests, config, lambda _: None):
        for name in manifests:
            place = deployed_node(str(tmp_path / "run" / "deployment" / name))
            own = place.settings(config)
            place.refuse(own, protocol.QUERY)
            files = (own.backbone, own.weights, own.feature_statistics)
            assert files == (config.backbone, config.weights, config.feature_statistics)
            assert len(place.images()) == 6


@pytest.mark.process
def test_sites_that_do_not_come_up_are_given_up_after_join_timeout_each(
    tmp_path: Path, folder_of_classes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        deployment_engine,
        "spawn",
        lambda *_: subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE),
    )
    monkeypatch.setattr(deployment_engine, "describe", lambda _: {"serving": True})
    monkeypatch.setattr(deployment_engine, "is_up", lambda site: site.settings.name == "a")
    monkeypatch.setattr("fedtransfer.common.support.processes.REPORT_SECONDS", 0.0)
    config = RunConfig(out=str(tmp_path / "run"), engine="deployment", sites=2, join_timeout=0.2)
    images = read_source(folder_of_classes(4)).images
    manifests = write_sites(tmp_path / "run", config, {"a": images[::2], "b": images[1::2]})
    said: list[str] = []
    with (
        pytest.raises(UserError, match=r"site b .*0\.4 s.*--join-timeout 0\.2") as error,
        deployment_engine.deployed(manifests, config, said.append),
    ):
        pass
    assert str(tmp_path / "run" / "deployment" / "b") in str(error.value), "where its log is"
    assert any("waiting for site b" in line for line in said)
    assert not any("waiting for site a" in line for line in said), "it is up"
