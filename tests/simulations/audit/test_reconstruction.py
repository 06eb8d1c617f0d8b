"""Images rebuilt from messages: better than class means on plain updates, not under privacy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedtransfer.common.backbone.backbone import Backbone, configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import archive_arrays, content_key
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import feature_map
from fedtransfer.simulations.audit.decoder import Decoder, bundled_decoder, demo_keys, may_be_known
from fedtransfer.simulations.audit.federation import RoundView, federate
from fedtransfer.simulations.audit.reconstruction import (
    Originals,
    measures,
    psnr,
    rebuilt,
    ssim,
    write_examples,
)
from fedtransfer.simulations.audit.server_view import recovered
from fedtransfer.simulations.data.datasets import resolve_data

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SITES, EACH = 8, 12
PLAIN = RunConfig(sites=SITES, batch_size=EACH, rounds=1, classes="declared", class_names=",".join(CLASSES))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return configured_backbone(RunConfig())


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return bundled_decoder()


@pytest.fixture(scope="module")
def pictures() -> Mapping[str, np.ndarray]:
    return archive_arrays(str(resolve_data("cifar10-demo")))


@pytest.fixture(scope="module")
def sites(backbone: Backbone, pictures: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, ...]]:
    """Features, labels, images; four classes have one image, one has the others, five have none."""
    rng, compute = np.random.default_rng(0), backbone.extractor(EACH)
    x, y = pictures["x_train"], pictures["y_train"].ravel()
    made = {}
    for number in range(SITES):
        classes = rng.permutation(10)[:5]
        labels = np.sort(np.concatenate([classes[:4], np.full(EACH - 4, classes[4])]))
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(y == c), n, replace=False) for c, n in enumerate(np.bincount(labels))]
        )
        features = compute(backbone.resize(x[rows]))
        made[f"site {number}"] = (
            feature_map(RunConfig(), backbone)(features),
            labels.astype(np.int64),
            x[rows],
        )
    return made


@pytest.fixture(scope="module")
def originals(sites: dict[str, tuple[np.ndarray, ...]], decoder: Decoder) -> Originals:
    labels, images = ({name: site[part] for name, site in sites.items()} for part in (1, 2))
    return Originals.of(labels, images, CLASSES, decoder)


def attacked(
    config: RunConfig, sites: dict[str, tuple[np.ndarray, ...]], originals: Originals, decoder: Decoder
) -> np.ndarray:
    rounds: list[RoundView] = []
    splits = {name: (x, y) for name, (x, y, _) in sites.items()}
    federate(config, splits, 10, 0, rounds.append, rng=np.random.default_rng(0))
    return rebuilt(
        originals, recovered(config, {name: len(y) for name, (_, y) in splits.items()}, rounds), decoder
    )


def values(originals: Originals, images: np.ndarray) -> dict[str, float]:
    return {measure.measure: measure.estimate.mean for measure in measures(originals, images)}


def test_the_only_images_of_their_class_are_found(
    originals: Originals, sites: dict[str, tuple[np.ndarray, ...]]
) -> None:
    assert len(originals.targets) == 4 * SITES
    for target, image, label in zip(originals.targets, originals.images, originals.labels, strict=True):
        _, y, images = sites[target.site]
        assert (y == target.label).sum() == 1
        assert CLASSES[y[target.row]] == label
        np.testing.assert_array_equal(images[target.row], image)


@pytest.mark.run
def test_plain_updates_give_images_that_beat_the_guess_by_class(
    sites: dict[str, tuple[np.ndarray, ...]], originals: Originals, decoder: Decoder
) -> None:
    """As good as from the features: one full-batch step from zeros gives these exactly."""
    images = attacked(PLAIN, sites, originals, decoder)
    found = values(originals, images)
    assert found["psnr"] > found["psnr_of_class_mean"] + 2
    assert found["ssim"] > found["ssim_of_class_mean"] + 0.1
    own = decoder.images(np.stack([sites[t.site][0][t.row] for t in originals.targets]))
    assert np.abs(images.astype(int) - own).max() <= 1


STEPS = {"weighting": "uniform", "image_rate": 0.5, "batch_size": EACH // 2}


@pytest.mark.run
@pytest.mark.parametrize(
    ("method", "epsilon"),
    [(STEPS, 2.0), ({"strategy": "fedncm"}, 1.0), ({"strategy": "fedncm"}, 2.0)],
    ids=str,
)
def test_private_updates_give_none(
    method: dict[str, Any],
    epsilon: float,
    sites: dict[str, tuple[np.ndarray, ...]],
    originals: Originals,
    decoder: Decoder,
) -> None:
    private = {
        "rounds": 1,
        "classes": "declared",
        "class_names": ",".join(CLASSES),
        "dp": "image",
        "epsilon": epsilon,
    }
    found = values(originals, attacked(RunConfig(**private, **method), sites, originals, decoder))
    assert found["psnr"] < found["psnr_of_class_mean"]
    assert found["ssim"] < found["ssim_of_class_mean"] + 0.02


def test_examples_for_a_report(originals: Originals, tmp_path: Path) -> None:
    write_examples(
        tmp_path / "r.npz",
        originals,
        {"fedavg, none": originals.images, "fedavg, dp": originals.class_means},
        10,
        most=5,
    )
    with np.load(tmp_path / "r.npz") as file:
        assert {name: (file[name].shape, file[name].dtype.kind) for name in file.files} == {
            "originals": ((5, 32, 32, 3), "u"), "class_means": ((5, 32, 32, 3), "u"), "labels": ((5,), "U"),
            "rebuilt": ((2, 5, 32, 32, 3), "u"), "names": ((2,), "U"),
            "sites": ((5,), "U"), "images_per_class": ((), "i"),
        }  # fmt: skip
        assert file["images_per_class"] == 10
        assert file["sites"][0] == originals.targets[0].site
        np.testing.assert_array_equal(file["rebuilt"][0], file["originals"])


def test_without_any_single_image_nothing_is_measured(decoder: Decoder, tmp_path: Path) -> None:
    none = Originals.of({"a": np.array([1, 1])}, {"a": np.zeros((2, 32, 32, 3), np.uint8)}, CLASSES, decoder)
    images = rebuilt(none, {}, decoder)
    assert all(
        np.isnan(measure.estimate.mean) and measure.estimate.n == 0 for measure in measures(none, images)
    )
    write_examples(tmp_path / "r.npz", none, {"fedavg, none": images}, 0)
    assert np.load(tmp_path / "r.npz")["rebuilt"].shape == (1, 0, 32, 32, 3)


@pytest.mark.parametrize(
    ("unknown", "told"), [(["person"], "class person:"), (["tree", "person"], "classes person, tree:")]
)
def test_classes_that_the_decoder_does_not_know_are_named(
    decoder: Decoder, unknown: list[str], told: str
) -> None:
    with pytest.raises(
        UserError, match=f"images cannot be rebuilt for the {told} the decoder knows images of airplane"
    ):
        Originals.of({}, {}, ["cat", *unknown], decoder)


def test_images_that_the_decoder_may_have_seen_are_refused(decoder: Decoder) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (50, 32, 32, 3), np.uint8)
    known = next(image for image in drawn if may_be_known(image))
    with pytest.raises(UserError, match="1 of 1 images under attack"):
        Originals.of({"a": np.array([0])}, {"a": known[None]}, CLASSES, decoder)


def test_no_demo_image_is_known_to_the_decoder(pictures: Mapping[str, np.ndarray]) -> None:
    assert not any(may_be_known(image) for name in ("x_train", "x_test") for image in pictures[name])
    assert len(demo_keys()) == 3000


def test_about_a_fifth_of_other_images_is_kept_from_the_decoder() -> None:
    drawn = np.random.default_rng(1).integers(0, 256, (1000, 32, 32, 3), np.uint8)
    known = [may_be_known(image) for image in drawn]
    assert known == [content_key(image)[0] < 204 for image in drawn]
    assert 0.75 < np.mean(known) < 0.85


def test_features_that_the_decoder_is_not_for_are_refused(decoder: Decoder, backbone: Backbone) -> None:
    decoder.check(RunConfig(), backbone)
    with pytest.raises(UserError, match="project random"):
        decoder.check(RunConfig(project="random", dimensions=64), backbone)
    with pytest.raises(UserError, match="at 32 pixels"):
        decoder.check(RunConfig(), configured_backbone(RunConfig(resolution=32)))


def test_psnr_is_of_the_mean_squared_error() -> None:
    black = np.zeros((2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(psnr(black + np.uint8(255), black), 0)
    np.testing.assert_allclose(psnr(black + np.uint8(16), black), 20 * np.log10(255 / 16))
    assert np.isinf(psnr(black, black)).all()


def test_ssim_is_that_of_tensorflow(pictures: Mapping[str, np.ndarray]) -> None:
    from fedtransfer.common.tensorflow import tf

    a, b = pictures["x_test"][:20], pictures["x_test"][20:40]
    np.testing.assert_allclose(ssim(a, b), tf.image.ssim(a, b, 255).numpy(), atol=2e-4)
    np.testing.assert_allclose(ssim(a, a), 1)
