"""A site that is still preparing its features says how far it is, and then answers as others do."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest
from flwr.app import Message
from waiting import patient, wait_until

from fedtransfer.client.app import app
from fedtransfer.client.data import Preparation
from fedtransfer.client.node import Node
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Description, Preparing, Query
from fedtransfer.simulations.engines.inprocess import InProcessGrid, SimulatedSite


def test_progress_then_the_site() -> None:
    go, begun = Event(), Event()

    def prepare(report):
        report(3, 9)
        begun.set()
        assert go.wait(patient(60))
        return "the site"

    preparation = Preparation(prepare)
    assert begun.wait(patient(60)), "preparation begins"
    assert preparation.data(0.01) is None
    assert (preparation.done, preparation.total) == (3, 9)
    go.set()
    assert preparation.data() == "the site"


def test_what_goes_wrong_is_raised_to_who_asks() -> None:
    def prepare(report):
        raise UserError("no images")

    with pytest.raises(UserError, match="no images"):
        Preparation(prepare).data()


def test_a_query_is_answered_with_progress_until_the_site_is_ready(
    tmp_path: Path, folder_of_classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, go = folder_of_classes(12), Event()

    class Slow(Node):
        def images(self):
            assert go.wait(patient(60))
            return super().images()

    monkeypatch.setattr(
        "fedtransfer.client.app.find_node", lambda node, config: Slow(str(data), tmp_path, patience=0.05)
    )
    backbone = load_backbone(BUNDLED)
    query = Query(backbone.name, backbone.resolution, backbone.fingerprint)
    grid = InProcessGrid(app, [SimulatedSite("a", {})], RunConfig().to_flat(), 1)

    def ask(*kinds: type) -> object:
        [reply] = grid.send_and_receive([Message(wire.pack(query), 1, protocol.QUERY)])
        return wire.unpack(reply.content, *kinds)

    assert ask(Description, Preparing) == Preparing(0, 0)
    go.set()

    def description() -> Description | None:
        found = ask(Description, Preparing)
        return found if isinstance(found, Description) else None

    found = wait_until(description, "the site is ready")
    assert found
    assert sum(sum(counts) for counts in found.images.values()) == 36
    grid.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, Preparing(7, 36)),
        ({"masks": True}, Preparing(0, 0)),
        ({"dp": "image", "epsilon": 2.0, "weighting": "uniform"}, Preparing(0, 0)),
    ],
)
def test_how_far_it_is_tells_how_many_images_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], told: Preparing
) -> None:
    """So it is not told where numbers of images are kept back."""
    go, begun = Event(), Event()

    def prepare(images, config, report, least_images):
        report(7, 36)
        begun.set()
        go.wait(patient(60))
        raise UserError("enough")

    class There(Node):
        def images(self):
            return ()

    monkeypatch.setattr("fedtransfer.client.node.prepare_site", prepare)
    monkeypatch.setattr(
        "fedtransfer.client.app.find_node", lambda node, config: There("", tmp_path, patience=0.05)
    )
    config = RunConfig(classes="declared", class_names="a,b", **settings)
    backbone = load_backbone(BUNDLED)
    query = Query(backbone.name, backbone.resolution, backbone.fingerprint, config.declared_classes)
    grid = InProcessGrid(app, [SimulatedSite("a", {})], config.to_flat(), 1)
    try:
        for _ in range(2):  # once it has begun for sure
            [reply] = grid.send_and_receive([Message(wire.pack(query), 1, protocol.QUERY)])
            assert begun.wait(patient(60)), "preparation begins"
        assert wire.unpack(reply.content, Preparing) == told
    finally:
        go.set()
        grid.close()


def test_a_site_whose_images_are_mended_is_tried_again(
    tmp_path: Path, folder_of_classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fedtransfer.client.app.find_node",
        lambda node, config: Node(str(tmp_path / "images"), tmp_path, patience=patient(60)),
    )
    backbone = load_backbone(BUNDLED)
    query = Query(backbone.name, backbone.resolution, backbone.fingerprint)
    grid = InProcessGrid(app, [SimulatedSite("a", {})], RunConfig().to_flat(), 1)
    [reply] = grid.send_and_receive([Message(wire.pack(query), 1, protocol.QUERY)])
    with pytest.raises(SiteError, match="the site's images or settings cannot be used"):
        wire.unpack(reply.content, Description)
    folder_of_classes(12)
    [reply] = grid.send_and_receive([Message(wire.pack(query), 1, protocol.QUERY)])
    wire.unpack(reply.content, Description)
    grid.close()
