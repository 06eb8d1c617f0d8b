import json
from pathlib import Path

import forked
import numpy as np
import pytest
from waiting import wait_until

from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.backbone.networks import network_architecture, small_resnet
from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError
from fedtransfer.common.tensorflow import keras
from fedtransfer.simulations.pretraining import PretrainingRecipe, pretrain

RECIPE = PretrainingRecipe(epochs=4, resolution=32, batch_size=16, learning_rate=0.05)


def test_the_architecture_is_that_of_the_bundled_weights() -> None:
    bundled, network = load_backbone(BUNDLED).network, small_resnet()
    assert network_architecture(network) == network_architecture(bundled)
    network.set_weights(bundled.get_weights())
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(network(pixels, training=False), bundled(pixels, training=False), atol=1e-6)


def test_resolution_grows_after_four_sevenths_of_the_epochs() -> None:
    assert [PretrainingRecipe().resolution_of(epoch) for epoch in (0, 7, 8, 13)] == [48, 48, 64, 64]


SMALL = """
from pathlib import Path
from fedtransfer.simulations import pretraining
whole = pretraining.small_resnet
pretraining.small_resnet = lambda: whole((4, 6), 1)
recipe = pretraining.PretrainingRecipe(4, 32, 16, 0.05)
pretraining.pretrain(Path({data!r}), Path({out!r}), recipe, lambda line: print(line, flush=True))
"""


@pytest.mark.process
def test_killed_and_resumed_it_ends_as_if_undisturbed(
    folder_of_classes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 after an epoch; the backbone has the weights of a run without the kill."""
    monkeypatch.setattr("fedtransfer.simulations.pretraining.small_resnet", lambda: small_resnet((4, 6), 1))
    data = folder_of_classes(16)
    lines: list[str] = []
    straight = pretrain(data, tmp_path / "straight.keras", RECIPE, lines.append)
    process = forked.start(
        "-c",
        SMALL.format(data=str(data), out=str(tmp_path / "killed.keras")),
        output=(log := tmp_path / "log"),
    )
    wait_until(lambda: "epoch 2" in log.read_text(), "the second epoch is done", process.died)
    process.kill()
    process.wait()
    resumed: list[str] = []
    killed = pretrain(data, tmp_path / "killed.keras", RECIPE, resumed.append)
    assert sum(line.startswith("epoch") for line in resumed) < 4, "it went on"
    for a, b in zip(straight.network.get_weights(), killed.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-3)
    assert sum(line.startswith("epoch") for line in lines) == 4
    assert not list(tmp_path.glob("*checkpoint*"))
    assert straight.mean is not None
    card = (tmp_path / "straight.md").read_text()
    for words in (straight.fingerprint, "3 classes", "top-1", "learning_rate 0.05"):
        assert words in card
    with pytest.raises(UserError, match="already exists"):
        pretrain(data, tmp_path / "straight.keras", RECIPE, lines.append)


def test_a_checkpoint_of_another_run_is_refused(folder_of_classes, tmp_path: Path) -> None:
    (tmp_path / "b.checkpoint.json").write_text(json.dumps({"identity": "other", "history": []}))
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "b.checkpoint.keras")
    with pytest.raises(UserError, match=r"b\.checkpoint\.keras .*another run"):
        pretrain(folder_of_classes(12), tmp_path / "b.keras", RECIPE, lambda line: None)


def test_what_cannot_be_trained_on(folder_of_classes, tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    (folder_of_classes(2) / "red").rename(one / "red")
    with pytest.raises(UserError, match="got one class"):
        pretrain(one, tmp_path / "b.keras", RECIPE, lambda line: None)
    with pytest.raises(UserError, match=r"b\.h5: .*\.keras"):
        pretrain(one, tmp_path / "b.h5", RECIPE, lambda line: None)
