"""Public statistics: made from images by a command, and used where a run asks for them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from fedtransfer.client.features_cli import features
from fedtransfer.common.backbone.backbone import configured_backbone, load_backbone
from fedtransfer.common.backbone.public_statistics import write_statistics
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import extract, open_store
from fedtransfer.common.features.feature_map import feature_map
from fedtransfer.common.tensorflow import keras

D = 256


def raw(n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.gamma(1, 1, (n, D)) @ rng.normal(0, 0.1, (D, D)) + 3).astype(np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundled, path = load_backbone(BUNDLED), tmp_path_factory.mktemp("statistics") / "public.npz"
    write_statistics(path, raw(), bundled.identity, 64)
    return path


def test_the_file_holds_mean_deviation_and_axes_by_falling_variance(file: Path) -> None:
    found, x = np.load(file), raw().astype(np.float64)
    np.testing.assert_allclose(found["mean"], x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["std"], x.std(0), rtol=1e-6)
    for name, seen in (("axes", x), ("standardised_axes", (x - x.mean(0)) / x.std(0))):
        expected = PCA(10, svd_solver="full").fit(seen).components_.T
        cosines = np.abs((found[name][:, :10] * expected).sum(0))
        np.testing.assert_allclose(cosines, 1, atol=1e-4)
        np.testing.assert_allclose(found[name].T @ found[name], np.eye(D), atol=1e-5)
    assert {found[name].dtype for name in ("mean", "std", "axes", "standardised_axes")} == {
        np.dtype(np.float32)
    }


def test_a_constant_feature_has_deviation_0_and_harms_no_axis(tmp_path: Path) -> None:
    x = raw()
    x[:, 3] = 0
    write_statistics(tmp_path / "x.npz", x, load_backbone(BUNDLED).identity, 64)
    assert np.load(tmp_path / "x.npz")["std"][3] == 0
    config = RunConfig(
        standardise="public", project="pca", dimensions=5, feature_statistics=str(tmp_path / "x.npz")
    )
    assert np.isfinite(feature_map(config, configured_backbone(config))(raw())).all()


@pytest.mark.parametrize("standardise", ["none", "centre", "public"])
def test_a_run_projects_on_the_axes_of_features_as_they_are_then(file: Path, standardise: str) -> None:
    """PCA of scikit-learn on all images keeps the same variance."""
    config = RunConfig(
        standardise=standardise, project="pca", dimensions=8, normalise=False, feature_statistics=str(file)
    )
    x = raw()
    seen = StandardScaler().fit_transform(x.astype(np.float64)) if standardise == "public" else x
    projected = feature_map(config, configured_backbone(config))(x)
    np.testing.assert_allclose(
        projected.var(0), PCA(8).fit(seen).explained_variance_ * (len(x) - 1) / len(x), rtol=1e-3
    )


def test_the_bundled_backbone_has_a_deviation_and_a_file_stands_for_what_it_has(file: Path) -> None:
    own = RunConfig(standardise="public", normalise=False)
    known = configured_backbone(own)
    np.testing.assert_allclose(
        feature_map(own, known)(raw()), (raw() - known.public.mean) / known.public.std, rtol=1e-4, atol=1e-5
    )
    given = own.model_copy(update={"feature_statistics": str(file)})
    np.testing.assert_allclose(feature_map(given, configured_backbone(given))(raw()).std(0), 1, rtol=1e-4)


def test_what_is_used_enters_what_sites_compare_and_nothing_else_does(file: Path, tmp_path: Path) -> None:
    bundled, named = load_backbone(BUNDLED), str(file)
    assert configured_backbone(RunConfig()).fingerprint == bundled.fingerprint == bundled.identity
    assert configured_backbone(RunConfig(standardise="federated")).fingerprint == bundled.identity
    assert configured_backbone(RunConfig(project="random", dimensions=5)).fingerprint == bundled.identity
    used = [
        RunConfig(standardise="public"),
        RunConfig(feature_statistics=named),
        RunConfig(standardise="public", feature_statistics=named),
        RunConfig(project="pca", dimensions=3, feature_statistics=named),
        RunConfig(project="pca", dimensions=3, standardise="public", feature_statistics=named),
    ]
    backbones = [configured_backbone(config) for config in used]
    assert len({bundled.fingerprint, *(known.fingerprint for known in backbones)}) == len(used) + 1
    folders = {open_store(known, str(tmp_path)).folder for known in [bundled, *backbones]}
    assert len(folders) == 1, "raw features are the same, whatever becomes of them"
    changed = dict(np.load(file))
    changed["std"][5] = np.nextafter(changed["std"][5], np.float32(9))
    np.savez(tmp_path / "changed.npz", **changed)
    centred = RunConfig(feature_statistics=str(tmp_path / "changed.npz"))
    assert configured_backbone(centred).fingerprint == configured_backbone(used[1]).fingerprint
    divided = centred.model_copy(update={"standardise": "public"})
    assert configured_backbone(divided).fingerprint != configured_backbone(used[2]).fingerprint


def test_what_is_not_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        configured_backbone(RunConfig(project="pca", dimensions=5))
    for words in (
        "--project pca: ",
        BUNDLED,
        "`fedtransfer features statistics IMAGES --out FILE.npz`",
        "--feature-statistics FILE.npz",
    ):
        assert words in str(caught.value)
    image = keras.Input((32, 32, 3))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(tmp_path / "plain.keras")
    with pytest.raises(UserError, match=r"--standardise public: .*plain"):
        configured_backbone(RunConfig(backbone=str(tmp_path / "plain.keras"), standardise="public"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path, good: None, r"no such file; .*features statistics"),
        (lambda path, good: path.write_bytes(b"torn"), r"cannot be read .*; .*features statistics"),
        (lambda path, good: np.savez(path, std=good["std"]), "no array mean in it"),
        (
            lambda path, good: np.savez(path, **good | {"mean": good["mean"][:9]}),
            r"mean is float32 of shape \(9,\)",
        ),
        (
            lambda path, good: np.savez(path, **good | {"std": good["std"] * np.nan}),
            "std is .*; expected finite",
        ),
        (
            lambda path, good: np.savez(path, **good | {"fingerprint": "abc"}),
            "made for backbone abc… at 64 px, but",
        ),
        (
            lambda path, good: np.savez(path, **good | {"resolution": 32}),
            "made for .* at 32 px, but this one .* at 64 px",
        ),
        (lambda path, good: np.savez(path, mean=good["mean"]), "made for backbone unknown…"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(file: Path, tmp_path: Path, damage, told: str) -> None:
    path = tmp_path / "other.npz"
    damage(path, dict(np.load(file)))
    with pytest.raises(UserError, match=rf"feature statistics .*other\.npz: {told}"):
        configured_backbone(RunConfig(standardise="public", feature_statistics=str(path)))


def test_the_command_makes_what_a_run_takes(tmp_path: Path, folder_of_classes) -> None:
    images, out, store = folder_of_classes(5), tmp_path / "public.npz", tmp_path / "store"
    (images / "red" / "bad.png").write_bytes(b"none")
    result = CliRunner().invoke(
        features, ["statistics", str(images), "--out", str(out), "--store", str(store)]
    )
    assert result.exit_code == 0, result.output
    assert f"{out}: 15 images, 256 features of {BUNDLED} at 64 px" in result.stdout
    assert "left out: 1 unreadable image" in result.stdout
    assert "only the first 14 axes" in result.stdout
    config = RunConfig(project="pca", dimensions=5, feature_statistics=str(out))
    known = configured_backbone(config)
    opened = open_store(known, str(store))
    keys = [key for key in extract(opened, known, read_source(images).images).keys if key]
    np.testing.assert_allclose(
        known.public.mean, opened.read(keys).mean(0, dtype=np.float64), rtol=1e-5, atol=1e-6
    )
    assert feature_map(config, known)(opened.read(keys)).shape == (15, 5)
    again = CliRunner().invoke(features, ["statistics", str(images), "--out", str(out)])
    assert "already exists" in str(again.exception)
