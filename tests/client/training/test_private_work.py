"""What a site answers under differential privacy of images, and of sites with shared noise."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedtransfer.client import tasks
from fedtransfer.client.consent.ledger import SiteLedger
from fedtransfer.client.consent.refusals import refuse_beyond
from fedtransfer.client.data import prepare_site
from fedtransfer.client.node import Node
from fedtransfer.client.tasks import Site
from fedtransfer.client.training.private import clipped_gradient_sum
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.head.head import HeadSpec, initial_head
from fedtransfer.common.head.schedule import rate
from fedtransfer.common.privacy.accounting import Release
from fedtransfer.common.privacy.gaussian import norm
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Query, Task, Trial, Update

CLASSES = ("blue", "green", "red")
DECLARED = {"classes": "declared", "class_names": ",".join(CLASSES), "weighting": "uniform"}
IMAGE = {"dp": "image", "noise_multiplier": 1.0, "image_rate": 1.0, "local_steps": 2, **DECLARED}
SHARED = {"masks": True, "noise": "shared", "min_sites": 3}

TASK = Task("the site", 4, CLASSES, initial_head(HeadSpec(256, 3), 0), "uniform")


@pytest.fixture
def prepared(tmp_path: Path, folder_of_classes: Callable[..., Path]) -> Callable[..., Site]:
    """A site, ready to work for a run of these settings."""
    images = folder_of_classes(12)

    def prepare(data: Path = images, **settings: object) -> Site:
        node, config = Node(str(data), tmp_path / "state"), RunConfig(**settings)
        return Site(node, config, 7, prepare_site(node.images(), config))

    return prepare


def test_nothing_leaves_but_the_noisy_update(prepared) -> None:
    site = prepared(**IMAGE)
    first, second = tasks.train(TASK, site), tasks.train(TASK, site)
    assert first.examples == 1
    assert not first.validation.images.any()
    assert not first.test.images.any()
    for array, other, old in zip(first.total, second.total, TASK.head, strict=True):
        assert array.shape == old.shape
        assert array.dtype == np.float32
        assert not (array == other).any(), "noise is new each time"
    expected = site.config.learning_rate * np.sqrt(2) / site.config.batch_size  # rate · √steps / batch size
    assert np.std(first.total[0] - second.total[0]) == pytest.approx(np.sqrt(2) * expected, rel=0.1)
    slower = tasks.train(replace(TASK, rate=0.01), site)
    assert norm(slower.total) == pytest.approx(0.01 * norm(first.total), rel=0.2)


def test_with_shared_noise_the_update_is_the_sum_of_one_step(prepared) -> None:
    site = prepared(**IMAGE | SHARED | {"local_steps": 1, "clip": 0.1, "weight_decay": 0.0})
    update = tasks.train(replace(TASK, rate=0.5), site)
    x, y = site.data.data("train", CLASSES)
    promised = guarantee(site.config)
    assert promised is not None
    total = clipped_gradient_sum(
        TASK.head, x, y, Recipe.from_config(site.config), promised, np.random.default_rng(0)
    )
    for array, part in zip(update.total, total, strict=True):
        assert array.dtype == part.dtype == np.float64
        np.testing.assert_array_equal(array, -0.5 * site.config.learning_rate / site.config.batch_size * part)
    assert norm(update.total) > 0
    assert update.examples == 1


def test_images_of_other_classes_are_left_out_and_no_refusal_tells_of_them(
    prepared, tmp_path: Path, caplog
) -> None:
    path, shown = tmp_path / "images.csv", []
    for extra in ([], ["images/red/0.png"]):
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "label"])
            rows.writerows([f"images/{name}/{i}.png", name] for name in CLASSES for i in range(1, 6))
            rows.writerows([other, "purple"] for other in extra)
        site = prepared(path, **IMAGE)
        query = Query("name", 32, "0" * 64, CLASSES)
        shown.append(
            (tasks.describe(query, site), site.data.images_by_class(), tasks.train(TASK, site).examples)
        )
    assert shown[0] == shown[1]
    assert "left out: 1 " in caplog.text
    with pytest.raises(SiteError, match="blue, green, red"):
        refuse_beyond(replace(TASK, classes=("blue", "green")), protocol.EVALUATE, site.config)


@pytest.mark.parametrize("settings", [{"noise": "alone"}, SHARED | {"local_steps": 1}])
def test_the_rate_and_the_rounds_are_those_of_the_settings(settings: dict) -> None:
    """A share of noise grows with the rate: who lowers it for all but one would see that one."""
    config = RunConfig(**{**IMAGE, **settings}, rounds=5, schedule="cosine")
    for number in range(1, 6):
        refuse_beyond(replace(TASK, round=number, rate=rate(config, number)), protocol.TRAIN, config)
        with pytest.raises(SiteError, match=rf"learning rate in round {number}"):
            refuse_beyond(
                replace(TASK, round=number, rate=0.9 * rate(config, number)), protocol.TRAIN, config
            )
    for number in (0, 6, 1_000_000):
        with pytest.raises(SiteError, match="rounds 1 to 5"):
            refuse_beyond(replace(TASK, round=number, rate=rate(config, 5)), protocol.TRAIN, config)
    once = RunConfig(
        **{**IMAGE, "local_steps": 0, "image_rate": 0.05, "weighting": "examples"}, strategy="fed3r"
    )
    with pytest.raises(SiteError, match="the run's settings say no training"):
        refuse_beyond(replace(TASK, weighting=once.weights_of_sites), protocol.TRAIN, once)


def test_a_site_without_training_images_answers_with_noise(prepared, tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        rows.writerows([f"images/{name}/{i}.png", name, "test"] for name in CLASSES for i in range(3))
    update = tasks.train(TASK, prepared(path, **IMAGE, learning_rate=1.0))
    assert update.examples == 1
    assert norm(update.total) == pytest.approx(np.sqrt(2 * 771) / 32, rel=0.2)


def test_a_reply_is_charged_before_it_leaves(
    tmp_path: Path, folder_of_classes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.app import Message

    from fedtransfer.client.app import app
    from fedtransfer.simulations.engines.inprocess import InProcessGrid, SimulatedSite

    ledger = SiteLedger(tmp_path / "state" / "site-privacy.jsonl")
    site = SimulatedSite("the site", {"data": str(folder_of_classes(12)), "state": str(tmp_path / "state")})

    def ask(value: object, kind: str, **settings: object) -> Message:
        grid = InProcessGrid(app, [site], RunConfig(**IMAGE | settings).to_flat(), 1)
        [reply] = grid.send_and_receive([Message(wire.pack(value), 1, kind)])
        grid.close()
        return reply

    wire.unpack(ask(TASK, protocol.TRAIN).content, Update)
    [line] = ledger.charges()
    assert (line["what"], line["round"], line["times"]) == ("train", 4, 2)
    assert ledger.spent() == {Release(1.0, 1.0): 2}
    ask(TASK, protocol.EVALUATE)
    ask(replace(TASK, weighting="examples"), protocol.TRAIN)  # is refused
    assert ledger.spent() == {Release(1.0, 1.0): 2}
    ask(TASK, protocol.TRAIN)
    assert ledger.spent() == {Release(1.0, 1.0): 4}, "the same round again is paid for again"

    def full(*_: object, **__: object) -> None:
        raise UserError("no space left")

    monkeypatch.setattr(SiteLedger, "charge", full)
    with pytest.raises(SiteError) as caught:
        wire.unpack(ask(TASK, protocol.TRAIN).content, Update)
    assert caught.value.code == "unusable"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"public_data": "public.npz"},
        {"strategy": "fed3r", "weighting": "examples", "local_steps": 0, "image_rate": 0.05},
    ],
)
def test_nobody_gets_scores_of_private_images(settings: dict) -> None:
    """Not even those that a run without privacy would give: a server may ask for anything."""
    config = RunConfig(**{**IMAGE, **settings})
    trial = Trial("the site", 0, CLASSES, (TASK.head,), (1.0,))
    for request, kind in ((trial, protocol.TRIAL), (TASK, protocol.PERSONAL)):
        with pytest.raises(SiteError, match="scores of private images"):
            refuse_beyond(request, kind, config)
    refuse_beyond(TASK, protocol.EVALUATE, config)
