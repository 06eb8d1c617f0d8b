"""What a site answers under differential privacy of images, and of sites with shared noise."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client import work
from client.budget import Budget
from client.limits import refuse_beyond
from client.place import Place
from client.private_trainer import clipped_gradient_sum
from client.site import prepare_site
from client.trainer import Recipe
from client.work import Work
from common import protocol, wire
from common.config import RunConfig
from common.errors import SiteError, UserError
from common.head import HeadSpec, initial_head
from common.privacy.accounting import Release
from common.privacy.clipping import norm
from common.privacy.guarantee import guarantee
from common.protocol import Task, Trial, Update

CLASSES = ("blue", "green", "red")
DECLARED = {"classes": "declared", "class_names": ",".join(CLASSES), "weighting": "uniform"}
IMAGE = {"dp": "image", "noise_multiplier": 1.0, "image_rate": 1.0, "local_steps": 2, **DECLARED}
SHARED = {"masks": True, "noise": "shared", "min_sites": 3}

TASK = Task("the site", 4, CLASSES, initial_head(HeadSpec(256, 3), 0), "uniform")


@pytest.fixture
def prepared(tmp_path: Path, folder_of_classes: Callable[..., Path]) -> Callable[..., Work]:
    """A site, ready to work for a run of these settings."""
    images = folder_of_classes(12)

    def prepare(data: Path = images, **settings: object) -> Work:
        place, config = Place(str(data), tmp_path / "state"), RunConfig(**settings)
        return Work(place, config, 7, prepare_site(place.images(), config))

    return prepare


def test_nothing_leaves_but_the_noisy_update(prepared) -> None:
    site = prepared(**IMAGE)
    first, second = work.train(TASK, site), work.train(TASK, site)
    assert first.examples == 1
    assert not first.validation.images.any()
    assert not first.test.images.any()
    for array, other, old in zip(first.total, second.total, TASK.head, strict=True):
        assert array.shape == old.shape
        assert array.dtype == np.float32
        assert not (array == other).any(), "noise is new each time"
    expected = site.config.learning_rate * np.sqrt(2) / site.config.batch_size  # rate · √steps / batch size
    assert np.std(first.total[0] - second.total[0]) == pytest.approx(np.sqrt(2) * expected, rel=0.1)
    slower = work.train(replace(TASK, rate=0.01), site)
    assert norm(slower.total) == pytest.approx(0.01 * norm(first.total), rel=0.2)


def test_with_shared_noise_the_update_is_the_sum_of_one_step(prepared) -> None:
    site = prepared(**IMAGE | SHARED | {"local_steps": 1, "clip": 0.1, "weight_decay": 0.0})
    update = work.train(replace(TASK, rate=0.5), site)
    x, y = site.site.data("train", CLASSES)
    promised = guarantee(site.config)
    assert promised is not None
    total = clipped_gradient_sum(TASK.head, x, y, Recipe.from_config(site.config), promised, np.random.default_rng(0))
    for array, part in zip(update.total, total, strict=True):
        np.testing.assert_allclose(array, -0.5 * site.config.learning_rate / site.config.batch_size * part, rtol=1e-5)
    assert norm(update.total) > 0
    assert update.examples == 1


def test_with_shared_noise_of_sites_a_site_bounds_its_own_update(prepared) -> None:
    settings = {"dp": "site", "noise_multiplier": 1.0, "learning_rate": 4.0, **DECLARED}
    bounded = work.train(TASK, prepared(**settings | SHARED | {"clip": 0.01}))
    free = work.train(TASK, prepared(**settings | {"clip": 0.01}))
    assert norm(free.total) > 0.02, "the server does, where it sees the update"
    assert norm(bounded.total) == pytest.approx(0.01, rel=1e-6)
    for array, other in zip(bounded.total, free.total, strict=True):
        np.testing.assert_allclose(array, other * 0.01 / norm(free.total), rtol=1e-5)
    assert (bounded.examples, free.examples) == (1, 1)


def test_a_site_without_training_images_answers_with_noise(prepared, tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        rows.writerows([f"images/{name}/{i}.png", name, "test"] for name in CLASSES for i in range(3))
    update = work.train(TASK, prepared(path, **IMAGE, learning_rate=1.0))
    assert update.examples == 1
    assert norm(update.total) == pytest.approx(np.sqrt(2 * 771) / 32, rel=0.2)


def test_a_reply_is_charged_before_it_leaves(
    tmp_path: Path, folder_of_classes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.app import Message

    from client.app import app
    from simulations.engine import InProcessGrid, SimulatedSite

    budget = Budget(tmp_path / "state" / "privacy.jsonl")
    site = SimulatedSite("the site", {"data": str(folder_of_classes(12)), "state": str(tmp_path / "state")})

    def ask(value: object, kind: str, **settings: object) -> Message:
        grid = InProcessGrid(app, [site], RunConfig(**IMAGE | settings).to_flat(), 1)
        [reply] = grid.send_and_receive([Message(wire.pack(value), 1, kind)])
        grid.close()
        return reply

    wire.unpack(ask(TASK, protocol.TRAIN).content, Update)
    [line] = budget.lines()
    assert (line["what"], line["round"], line["times"]) == ("train", 4, 2)
    assert budget.spent() == {Release(1.0, 1.0): 2}
    ask(TASK, protocol.EVALUATE)
    ask(replace(TASK, weighting="examples"), protocol.TRAIN)  # is refused
    assert budget.spent() == {Release(1.0, 1.0): 2}
    ask(TASK, protocol.TRAIN)
    assert budget.spent() == {Release(1.0, 1.0): 4}, "the same round again is paid for again"

    def full(*_: object) -> None:
        raise UserError("no space left")

    monkeypatch.setattr(Budget, "charge", full)
    with pytest.raises(SiteError) as caught:
        wire.unpack(ask(TASK, protocol.TRAIN).content, Update)
    assert caught.value.code == "unusable"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": 0.9, "public_data": "public.npz"},
        {"strategy": "fed3r", "weighting": "examples", "local_steps": 0, "image_rate": 0.05},
    ],
)
def test_nobody_gets_scores_of_private_images(settings: dict) -> None:
    """Not those that a run without privacy would give either: a server may ask for whatever it likes."""
    config = RunConfig(**{**IMAGE, **settings})
    trial = Trial("the site", 0, CLASSES, (TASK.head,))
    for request, kind in ((trial, protocol.TRIAL), (TASK, protocol.PERSONAL)):
        with pytest.raises(SiteError, match="asked for scores of private images; the run's settings say none"):
            refuse_beyond(request, kind, config)
    refuse_beyond(TASK, protocol.EVALUATE, config)
