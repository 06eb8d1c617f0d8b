"""What becomes of features before a head sees them, against NumPy and scikit-learn."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import StandardScaler

from fedtransfer.common.backbone.backbone import Backbone, backbone_of_network, load_backbone
from fedtransfer.common.backbone.public_statistics import PublicStatistics
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import feature_map, feature_width, moments_of
from fedtransfer.common.head.head import HeadSpec, initial_head
from fedtransfer.common.head.model import export_models, load_model
from fedtransfer.common.tensorflow import keras

D = 6


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Six features: means and deviations of nothing in particular."""
    image = keras.Input((32, 32, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(D, 5, activation="relu")(scaled))
    return keras.Model(image, pooled)


def backbone(network: keras.Model, seed: int = 0) -> Backbone:
    """With public statistics of every kind; the deviation of its last feature is 0."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(D, D)))[0].astype(np.float32)
    std = np.append(rng.uniform(0.5, 2, D - 1), 0).astype(np.float32)
    mean = rng.normal(size=D).astype(np.float32)
    known = backbone_of_network("small", 32, network, mean)
    return replace(known, statistics=PublicStatistics(mean, std, axes))


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.4, 2, (n, D)).astype(np.float32)


def test_the_default_is_to_centre_by_the_public_mean_and_to_scale_to_length_1_bit_for_bit() -> None:
    bundled = load_backbone(BUNDLED)
    raw = np.random.default_rng(0).gamma(1, 1, (50, 256)).astype(np.float32)
    raw[7] = bundled.mean
    centred = raw - bundled.mean
    expected = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    mapped = feature_map(RunConfig(), bundled)
    np.testing.assert_array_equal(mapped(raw), expected)
    assert mapped(raw).dtype == np.float32
    assert (mapped(raw)[7] == 0).all()
    raw_map = feature_map(RunConfig(standardise="none", normalise=False), bundled)
    np.testing.assert_array_equal(raw_map(raw), raw)


def test_steps_come_in_their_order(network: keras.Model) -> None:
    """Standardised, then projected, then of length 1: against the words, in float64."""
    known = backbone(network)
    statistics, x = known.public, rows(9)
    config = RunConfig(standardise="public", project="pca", dimensions=3)
    scale = np.append(1 / statistics.std[:-1].astype(np.float64), 1)  # a constant feature stays as it is
    expected = ((x - statistics.mean.astype(np.float64)) * scale) @ statistics.axes[:, :3]
    np.testing.assert_allclose(
        feature_map(config.model_copy(update={"normalise": False}), known)(x), expected, rtol=1e-4, atol=1e-5
    )
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    mapped = feature_map(config, known)
    np.testing.assert_allclose(mapped(x), expected, rtol=1e-4, atol=1e-5)
    assert mapped.width == feature_width(config, known) == 3
    assert mapped(x[:0]).shape == (0, 3)


@settings(max_examples=60)
@given(st.data())
def test_federated_moments_are_those_of_all_images_whoever_holds_them(data: st.DataObject) -> None:
    """Sums of any parts in any order, against the pooled moments and scikit-learn's scaler."""
    n = data.draw(st.integers(1, 40))
    numbers = st.floats(-100, 100, width=32)
    x = data.draw(arrays(np.float32, (n, D), elements=numbers)).astype(np.float64)
    if data.draw(st.booleans()):
        x[:, 0] = data.draw(numbers)
    owners = data.draw(arrays(np.int64, n, elements=st.integers(0, 4)))
    order = data.draw(st.permutations(range(5)))
    parts = [x[owners == k] for k in order]
    mean, deviation = moments_of(n, sum(p.sum(0) for p in parts), sum((p**2).sum(0) for p in parts))
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-9, atol=1e-9)
    # Where a deviation is far below its feature, the difference has no more digits than this.
    lost = np.sqrt(n * np.finfo(float).eps * (x**2).mean(0))
    assert (np.abs(deviation - x.std(0)) <= 1e-9 + 2 * lost).all()
    clear = x.std(0) > 1e-3 * np.abs(x).max(0)
    np.testing.assert_allclose(deviation[clear], x.std(0)[clear], rtol=1e-9, atol=1e-9)
    constant = np.ptp(x, axis=0) == 0
    assert (deviation[constant] == 0).all()


def test_federated_standardisation_is_a_scaler_fitted_on_all_images_and_safe_for_constants(network) -> None:
    x = rows(200)
    x[:, 2] = 0.1
    wide = x.astype(np.float64)
    config = RunConfig(standardise="federated", normalise=False)
    mapped = feature_map(config, backbone(network), moments_of(200, wide.sum(0), (wide**2).sum(0)))
    np.testing.assert_allclose(mapped(x), StandardScaler().fit_transform(wide), rtol=1e-4, atol=1e-5)
    assert np.isfinite(mapped(x + 1)).all()


def test_without_moments_federated_features_are_refused(network: keras.Model) -> None:
    with pytest.raises(UserError, match="--standardise federated: "):
        feature_map(RunConfig(standardise="federated"), backbone(network))


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_a_random_projection_roughly_keeps_distances(seed: int) -> None:
    """Of 190 pairs, each within 6 deviations of its true distance: 1 ± 6 · sqrt(2 / 200) / 2."""
    bundled = load_backbone(BUNDLED)
    config = RunConfig(seed=seed, standardise="none", normalise=False, project="random", dimensions=200)
    x = np.random.default_rng(seed + 1).gamma(1, 1, (20, 256)).astype(np.float32)
    projected = feature_map(config, bundled)(x)
    pairs = np.array(list(itertools.combinations(range(20), 2))).T
    before, after = (np.linalg.norm(y[pairs[0]] - y[pairs[1]], axis=1) for y in (x, projected))
    assert (np.abs(after / before - 1) < 0.45).all()
    assert abs(np.mean((after / before) ** 2) - 1) < 0.15
    np.testing.assert_array_equal(projected, feature_map(config, bundled)(x))
    other = config.model_copy(update={"seed": seed + 1})
    assert not np.array_equal(projected, feature_map(other, bundled)(x))


@pytest.mark.parametrize(("project", "dimensions"), [("random", 7), ("pca", 7), ("random", 0)])
def test_more_dimensions_than_features_are_refused(network, project: str, dimensions: int) -> None:
    config = RunConfig.model_construct(
        **RunConfig().model_dump() | {"project": project, "dimensions": dimensions}
    )
    told = (
        f"--dimensions {dimensions}: the features of small have 6, "
        f"and --project {project} .*; expected 1 to 6"
    )
    with pytest.raises(UserError, match=told):
        feature_map(config, backbone(network))


COMBINATIONS = list(
    itertools.product(("centre", "none", "public", "federated"), ("none", "pca", "random"), (True, False))
)
ONCE = {  # each standardisation, each projection, with and without normalising
    ("centre", "none", True),
    ("none", "pca", False),
    ("public", "random", True),
    ("public", "pca", False),
    ("federated", "pca", True),
    ("federated", "none", False),
}


@pytest.mark.run
@pytest.mark.parametrize(
    ("standardise", "project", "normalise"),
    [pytest.param(*one, marks=() if one in ONCE else pytest.mark.full) for one in COMBINATIONS],
)
def test_the_exported_model_sees_the_same_features(
    network, tmp_path: Path, standardise: str, project: str, normalise: bool
) -> None:
    config = RunConfig(
        standardise=standardise,
        project=project,
        dimensions=0 if project == "none" else 4,
        normalise=normalise,
    )
    known = backbone(network)
    if standardise != "public":
        known = replace(known, statistics=PublicStatistics(known.mean, axes=known.public.axes))
    rng = np.random.default_rng(1)
    images = np.stack(
        [rng.integers(low, high, (32, 32, 3), np.uint8) for low, high in ((0, 90), (90, 255), (0, 255))]
    )
    raw = network(images.astype(np.float32), training=False).numpy()
    mapped = feature_map(
        config, known, (raw.mean(0, dtype=float), np.append(raw.std(0, dtype=float)[:-1], 0))
    )
    spec = HeadSpec(mapped.width, 3)
    head = tuple(rng.normal(size=array.shape).astype(np.float32) for array in initial_head(spec, 0))
    export_models({tmp_path / "model.keras": head}, known, mapped, spec, ("a", "b", "c"))
    scores = mapped(raw) @ head[0] + head[1]
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    model = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose([model.predict(image) for image in images], expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.005, "the images must differ"
