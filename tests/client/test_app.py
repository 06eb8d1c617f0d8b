"""The ClientApp as a server sees it: real messages to a real site."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto

from fedtransfer.client.app import app
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.features.store import FeatureStore
from fedtransfer.common.head.head import HeadSpec, initial_head, load_head, load_moments
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import (
    Confusion,
    Description,
    Gather,
    Query,
    Scores,
    Sums,
    Task,
    Trial,
    Update,
)
from fedtransfer.simulations.engines.inprocess import InProcessGrid, SimulatedSite

CLASSES = ("blue", "green", "red")
PRIVATE = {"dp": "image", "noise_multiplier": 1.0, "classes": "declared", "class_names": "blue,green,red"}


@pytest.fixture
def ask(tmp_path: Path, folder_of_classes):
    """Send one value to the site and return Flower's reply message."""
    folder_of_classes(12)

    def ask(value: object, kind: str, data: Path = tmp_path / "images", **settings: object) -> Message:
        site = SimulatedSite("the site", {"data": str(data), "state": str(tmp_path / "state")})
        grid = InProcessGrid(app, [site], RunConfig(**settings).to_flat(), 1)
        [reply] = grid.send_and_receive([Message(wire.pack(value), 1, kind)])
        grid.close()
        return reply

    return ask


def task(**changes: object) -> Task:
    return replace(Task("the site", 4, CLASSES, initial_head(HeadSpec(256, 3), 0)), **changes)


def query() -> Query:
    backbone = load_backbone(BUNDLED)
    return Query(backbone.name, backbone.resolution, backbone.fingerprint)


def test_a_site_describes_itself(ask) -> None:
    description = wire.unpack(ask(query(), protocol.QUERY).content, Description)
    assert set(description.images) == set(CLASSES)
    assert sum(sum(counts) for counts in description.images.values()) == 36


def test_a_site_with_another_backbone_refuses_with_both_fingerprints_and_the_remedy(ask) -> None:
    reply = ask(replace(query(), fingerprint="0123456789abcdef" * 4), protocol.QUERY)
    with pytest.raises(SiteError) as caught:
        wire.unpack(reply.content, Description)
    assert caught.value.code == "backbone-differs"
    for words in (
        "0123456789abcdef",
        load_backbone(BUNDLED).fingerprint[:16],
        "install the same weights file",
    ):
        assert words in caught.value.text


def test_no_image_goes_through_a_backbone_that_is_refused(ask, tmp_path: Path) -> None:
    reply = ask(replace(query(), fingerprint="0" * 64), protocol.QUERY, data=tmp_path / "nowhere")
    with pytest.raises(SiteError, match="install the same weights file"):
        wire.unpack(reply.content, Description)


def test_a_site_reads_features_only_when_it_works_with_them(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    read = FeatureStore.read
    monkeypatch.setattr(FeatureStore, "read", lambda store, keys: rows.append(len(keys)) or read(store, keys))
    wire.unpack(ask(query(), protocol.QUERY).content, Description)
    assert rows == [], "thousands of sites that only describe themselves must not hold data"
    wire.unpack(ask(task(), protocol.TRAIN).content, Update)
    assert sum(rows) == 36


def test_training_replies_sums_and_the_scores_of_the_head_received(ask) -> None:
    update = wire.unpack(ask(task(), protocol.TRAIN, learning_rate=0.5).content, Update)
    scores = wire.unpack(ask(task(), protocol.EVALUATE).content, Scores)
    assert update.examples + update.validation.total + update.test.total == 36
    assert update.validation.accuracy == scores.validation.accuracy
    np.testing.assert_array_equal(update.test.images, scores.test.images)
    head = tuple(
        old + (total / update.examples).astype(np.float32)
        for old, total in zip(task().head, update.total, strict=True)
    )
    after = wire.unpack(ask(task(head=head), protocol.EVALUATE).content, Scores)
    assert after.test.loss < scores.test.loss


def test_views_are_trained_on_but_a_site_counts_its_images(ask) -> None:
    plain, more = (wire.unpack(ask(task(), protocol.TRAIN, augment=k).content, Update) for k in (0, 3))
    assert more.examples == plain.examples
    assert more.validation.total == plain.validation.total
    assert not np.array_equal(more.total[0], plain.total[0])


def test_features_are_standardised_by_the_moments_that_a_message_brings(ask, tmp_path: Path) -> None:
    moments = (np.full(256, 0.5), np.full(256, 2.0))
    head = (np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32), np.zeros(3, np.float32))
    # x @ W of a raw feature is ((x - 0.5) / 2) @ 2 W + 0.5 · (sum of W).
    raised = (2 * head[0], 0.5 * head[0].sum(0))
    raw = wire.unpack(
        ask(task(head=head), protocol.EVALUATE, standardise="none", normalise=False).content, Scores
    )
    told = task(head=raised, extra={protocol.MOMENTS: moments})
    settings = {"standardise": "federated", "normalise": False}
    scores = wire.unpack(ask(told, protocol.EVALUATE, **settings).content, Scores)
    assert scores.test.loss == pytest.approx(raw.test.loss, rel=1e-3)
    wire.unpack(ask(told, protocol.FINISH, **settings).content, Confusion)
    np.testing.assert_array_equal(load_moments(tmp_path / "state" / "head.npz"), moments)
    with pytest.raises(SiteError) as caught:
        wire.unpack(ask(task(), protocol.EVALUATE, **settings).content, Scores)
    assert caught.value.code == "unusable"


@pytest.mark.parametrize(
    ("settings", "what", "words"),
    [
        ({}, "gram", "the run's settings say none"),
        ({"init": "fedncm"}, "gram", "the run's settings say classes"),
        (
            {"strategy": "fed3r", "standardise": "federated"},
            "classes",
            "the run's settings say moments and gram",
        ),
        ({"strategy": "fed3r", **PRIVATE}, "gram", "the run's settings say noisy gram"),
        ({"strategy": "fedncm", **PRIVATE}, "classes", "the run's settings say noisy classes"),
        ({"strategy": "fedncm"}, "noisy classes", "the run's settings say classes"),
    ],
)
def test_a_site_gives_no_sums_that_the_runs_settings_do_not_say(
    ask, settings: dict, what: str, words: str
) -> None:
    """Consent is to the settings: no server can ask for more under another method's name."""
    with pytest.raises(SiteError, match=words) as caught:
        wire.unpack(ask(Gather("the site", 0, CLASSES, what), protocol.GATHER, **settings).content, Sums)
    assert caught.value.code == "not-of-this-run"


@pytest.mark.parametrize("strategy", ["fedncm", "fed3r"])
def test_under_privacy_sums_differ_from_time_to_time_and_tell_no_number_of_images(ask, strategy: str) -> None:
    request = Gather("the site", 0, CLASSES, "noisy classes" if strategy == "fedncm" else "noisy gram")
    first, second = (
        wire.unpack(ask(request, protocol.GATHER, strategy=strategy, **PRIVATE).content, Sums)
        for _ in range(2)
    )
    assert first.examples == second.examples == 1
    for one, other in zip(first.arrays, second.arrays, strict=True):
        assert (one != other).all()


def test_a_site_trains_no_deeper_than_the_runs_settings_say(ask) -> None:
    with pytest.raises(SiteError, match=r"the run's settings say head$") as caught:
        wire.unpack(ask(task(trainable="conv5"), protocol.TRAIN).content, Update)
    assert caught.value.code == "other-layer"


def test_the_result_is_kept_at_the_site(ask, tmp_path: Path) -> None:
    reply = wire.unpack(
        ask(task(head=(np.ones((256, 3), np.float32), np.ones(3, np.float32))), protocol.FINISH).content,
        Confusion,
    )
    assert reply.matrix.sum() == reply.test.total
    arrays, classes, fingerprint = load_head(tmp_path / "state" / "head.npz")
    assert (arrays[0] == 1).all()
    assert (classes, fingerprint) == (CLASSES, load_backbone(BUNDLED).fingerprint)


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (protocol.TRAIN, task(classes=("blue", "green", "other")), "unknown-class"),
        (protocol.TRAIN, task(head=()), "other-arrays"),
        (
            protocol.TRAIN,
            task(head=(np.full((256, 3), np.nan, np.float32), np.zeros(3, np.float32))),
            "other-arrays",
        ),
        (protocol.TRAIN, task(weighting="uniform"), "not-of-this-run"),
        (protocol.TRAIN, task(round=-5), "not-of-this-run"),
        (protocol.TRAIN, task(counted=4), "not-of-this-run"),
        (protocol.TRAIN, task(rate=7.0), "not-of-this-run"),
        (protocol.TRAIN, task(extra={protocol.CLASS_WEIGHTS: (np.array([0, 0, 1.0]),)}), "not-of-this-run"),
        (
            protocol.TRIAL,
            Trial("the site", 5, CLASSES, (task().head, task().head), (1.0,)),
            "not-of-this-run",
        ),
        (protocol.TRAIN, query(), "internal"),
    ],
)
def test_failures_become_codes(ask, kind: str, value: object, code: str) -> None:
    reply = ask(value, kind)
    assert not reply.has_error()
    with pytest.raises(SiteError) as caught:
        wire.unpack(reply.content, Update)
    assert caught.value.code == code


def test_no_path_and_no_label_of_a_site_is_in_a_failure(
    ask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Flower would send the exception's text, and a path can name a patient."""
    secret = tmp_path / "Mustermann-1970"
    wire = message_to_proto(ask(task(), protocol.TRAIN, data=secret)).SerializeToString()
    assert b"Mustermann" not in wire
    assert b"unusable" in wire
    assert "Mustermann" in caplog.text, "the site's own log says it"


def test_no_image_feature_or_backbone_tensor_travels(ask, tmp_path: Path) -> None:
    """Nothing in a reply has room for a feature vector, and no stored feature's bytes are in it."""
    from fedtransfer.common.features.extraction import open_store

    backbone = load_backbone(BUNDLED)
    for value, kind in (
        (query(), protocol.QUERY),
        (task(), protocol.TRAIN),
        (task(), protocol.EVALUATE),
        (task(), protocol.FINISH),
    ):
        reply = ask(value, kind)
        wire = message_to_proto(reply).SerializeToString()
        head = 4 * 257 * 3 if kind == protocol.TRAIN else 0
        assert len(wire) <= head + 2048
        store = open_store(backbone)
        for feature in store.read(list(store._rows)[:200]):
            assert feature.tobytes()[:64] not in wire
