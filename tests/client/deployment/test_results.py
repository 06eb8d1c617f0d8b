from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_network import shared_backbone
from small_onnx import network as onnx_network
from small_onnx import saved

from fedtransfer.client.node import keep_result, newest_result
from fedtransfer.common.backbone.backbone import configured_backbone, load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import head_spec, initial_head, load_head
from fedtransfer.common.head.model import load_model
from fedtransfer.common.wire.protocol import MOMENTS, Task

D = 8  # features of the small backbone
CLASSES = ("blue", "green", "red")
TASK = Task("anna", 4, CLASSES, (np.full((D, 3), 0.5, np.float32), np.arange(3, dtype=np.float32)))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small backbone's file."""
    path = tmp_path_factory.mktemp("backbone") / "small.keras"
    shared_backbone().network.save(path)
    return str(path)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results are kept; the clock is a counter."""
    hours = iter(range(10, 24))
    monkeypatch.setattr("fedtransfer.client.node.time.strftime", lambda *_: f"20261124T{next(hours)}0000Z")
    return tmp_path / "results"


@pytest.fixture
def keep(results: Path, network: str) -> Callable[..., None]:
    def keep(run: int, task: Task = TASK, **settings: object) -> None:
        config = RunConfig(backbone=network, resolution=32, **settings)
        keep_result(results, task, config, configured_backbone(config).fingerprint, run)

    return keep


def test_none_yet(results: Path) -> None:
    with pytest.raises(UserError, match="no result yet"):
        newest_result(results)


def test_the_newest_is_found_with_the_settings_of_its_run(results: Path, keep: Callable[..., None]) -> None:
    keep(900, seed=1)
    keep(100, seed=2)  # Flower's numbers are random
    kept = newest_result(results)
    assert kept.folder.name.endswith("-100")
    assert kept.config.seed == 2
    head, classes, fingerprint = load_head(kept.folder / "head.npz")
    np.testing.assert_array_equal(head[0], TASK.head[0])
    assert (classes, fingerprint) == (CLASSES, configured_backbone(kept.config).fingerprint)
    assert len(list(results.iterdir())) == 2


@pytest.mark.run
def test_a_run_that_is_delivered_again_replaces_its_own_result_and_model(
    results: Path, keep: Callable[..., None]
) -> None:
    keep(7)
    model = newest_result(results).model()
    before = model.read_bytes()
    keep(7, replace(TASK, head=(np.zeros((D, 3), np.float32), np.zeros(3, np.float32))))
    assert len(list(results.iterdir())) == 1
    image = np.zeros((40, 40, 3), np.uint8)
    again = newest_result(results).model()
    assert (again, again.read_bytes() != before) == (model, True)
    np.testing.assert_allclose(load_model(again).predict(image), [1 / 3] * 3, atol=1e-6)
    (model.parent / "model.keras").unlink()
    assert newest_result(results).model() == model


def test_a_model_is_made_once(results: Path, keep: Callable[..., None]) -> None:
    keep(7)
    kept = newest_result(results)
    made = kept.model().stat().st_mtime_ns
    assert kept.model().stat().st_mtime_ns == made
    assert [path.name for path in kept.folder.glob("*.keras")] == ["model.keras"]


@pytest.mark.run
def test_a_model_of_standardised_features_is_made_from_what_is_kept(
    results: Path, keep: Callable[..., None]
) -> None:
    """A head on ((x - m) / s) against the same head on raw features, made up for it."""
    rng = np.random.default_rng(0)
    moments = (rng.uniform(0, 1, D), rng.uniform(0.5, 2, D))
    kernel = rng.normal(size=(D, 3)).astype(np.float32)
    keep(1, replace(TASK, head=(kernel, np.zeros(3, np.float32))), standardise="none", normalise=False)
    raw = load_model(newest_result(results).model())
    raised = ((kernel * moments[1][:, None]).astype(np.float32), (moments[0] @ kernel).astype(np.float32))
    told = replace(TASK, head=raised, extra={MOMENTS: moments})
    keep(2, told, standardise="federated", normalise=False)
    image = rng.integers(0, 256, (40, 40, 3), np.uint8)
    again = load_model(newest_result(results).model())
    np.testing.assert_allclose(again.predict(image), raw.predict(image), atol=1e-4)
    keep(3, TASK, standardise="federated")
    with pytest.raises(UserError, match="mean and deviation are missing"):
        newest_result(results).model()


@pytest.mark.run
@pytest.mark.parametrize("layer", [pytest.param("head", marks=pytest.mark.full), "conv4_block2"])
def test_a_personal_head_stands_beside_the_result(results: Path, network: str, layer: str) -> None:
    config = RunConfig(backbone=network, resolution=32, trainable=layer)
    backbone = configured_backbone(config)
    first = initial_head(head_spec(config, backbone, 3, layer), 0)
    shares = {False: [0.5, 0.25, 0.25], True: [0.1, 0.2, 0.7]}
    tasks = {
        personal: replace(TASK, head=(*first[:-1], np.log(np.array(share, np.float32))), trainable=layer)
        for personal, share in shares.items()
    }
    keep_result(results, tasks[False], config, backbone.fingerprint, 7)
    with pytest.raises(UserError, match=r"-7: .*--personal-epochs"):
        newest_result(results, personal=True)
    keep_result(results, tasks[True], config, backbone.fingerprint, 7, personal=True)
    assert len(list(results.iterdir())) == 1
    image = np.zeros((40, 40, 3), np.uint8)
    for personal, expected in shares.items():
        model = newest_result(results, personal=personal).model()
        assert model.name == ("personal-model.keras" if personal else "model.keras")
        np.testing.assert_allclose(load_model(model).predict(image), expected, atol=1e-6)
    keep_result(results, tasks[False], config, backbone.fingerprint, 7, personal=True)
    again = load_model(newest_result(results, personal=True).model())
    np.testing.assert_allclose(again.predict(image), shares[False], atol=1e-6)


def test_another_backbone_than_that_of_the_run_is_refused(results: Path) -> None:
    keep_result(results, TASK, RunConfig(), "0123456789abcdef" * 4, 7)
    with pytest.raises(UserError) as caught:
        newest_result(results).model()
    own = load_backbone(BUNDLED).fingerprint[:16]
    for words in (
        "trained on backbone 0123456789abcdef…",
        f"{BUNDLED} is now {own}…",
        "bring back the earlier file",
    ):
        assert words in str(caught.value)


def test_a_damaged_head_is_said_to_be_one(results: Path, keep: Callable[..., None]) -> None:
    keep(7)
    kept = newest_result(results)
    (kept.folder / "head.npz").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"head\.npz: not a head that fedtransfer wrote"):
        kept.model()


def test_a_result_on_a_network_in_onnx_is_a_model_in_onnx(results: Path, tmp_path: Path) -> None:
    file = saved(onnx_network(), tmp_path / "net.onnx")
    config = RunConfig(backbone=file, preprocessing="torch", resolution=32)
    backbone = configured_backbone(config)
    task = replace(TASK, head=(np.zeros((backbone.features, 3), np.float32), TASK.head[1]))
    keep_result(results, task, config, backbone.fingerprint, 7)
    result, image = newest_result(results), np.zeros((40, 40, 3), np.uint8)
    copy = result.copy_model(tmp_path / "copy.onnx")
    shares = np.exp(TASK.head[1]) / np.exp(TASK.head[1]).sum()
    for model in (load_model(result.model()), load_model(copy), result.classifier()):
        assert model.classes == CLASSES
        np.testing.assert_allclose(model.predict(image), shares, atol=1e-6)
    with pytest.raises(UserError, match=r"copy.keras: the model is model.onnx; expected .* with .onnx"):
        result.copy_model(tmp_path / "copy.keras")
