"""A simulation's clients and baselines work on the same features, which are read once."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fedtransfer.client.data import SPLITS, prepare_site
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.features.store import FeatureStore
from fedtransfer.server.app import make_app
from fedtransfer.simulations.data.features import prepare_sites
from fedtransfer.simulations.data.sites import load, write_sites
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import run_on_engine, simulate

WIDTH = 12


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = (rng.normal(size=(90, WIDTH)) + 3 * np.eye(3, WIDTH)[y]).astype(np.float32)
    x[7] = x[6]  # a copy of an image
    np.savez(tmp_path / "features.npz", x_train=x[:70], y_train=y[:70], x_test=x[70:], y_test=y[70:])
    return tmp_path / "features.npz"


def config(archive: Path, out: str, **settings: Any) -> RunConfig:
    return RunConfig(
        data=str(archive), backbone=f"features-{WIDTH}", standardise="none", sites=4, rounds=2,
        out=str(archive.parent / out), store=str(archive.parent / "store"), models=False, **settings,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [{}, {"dp": "image", "noise_multiplier": 1.0, "weighting": "uniform", "alpha": 100.0}],
)
def test_a_site_has_the_data_that_its_manifest_gives(archive: Path, settings: dict[str, Any]) -> None:
    data = load(config(archive, "run", **settings))
    shared = prepare_sites(data).sites
    manifests = write_sites(archive.parent / "run", data.config, data.sites)
    assert set(shared) == set(manifests)
    for name, manifest in manifests.items():
        own = prepare_site(read_source(manifest).images, data.config)
        assert own.keys == shared[name].keys
        assert (own.unreadable, own.augment) == (shared[name].unreadable, shared[name].augment)
        for split in SPLITS:
            assert own.labels[split].tolist() == shared[name].labels[split].tolist()
            np.testing.assert_array_equal(own.features()[split], shared[name].features()[split])


@pytest.mark.run
def test_a_head_has_the_same_bits_whoever_prepared_its_sites(archive: Path) -> None:
    heads = []
    for out in ("own", "shared"):
        data = load(config(archive, out))
        shared = prepare_sites(data).sites if out == "shared" else None
        manifests = write_sites(archive.parent / out, data.config, data.sites)
        run_on_engine(make_app(), manifests, data.config, shared)
        heads.append((archive.parent / out / "head.npz").read_bytes())
    assert heads[0] == heads[1]


@pytest.mark.run
@pytest.mark.parametrize("settings", [{}, {"unseen_sites": 1}, {"strategy": "fed3r"}])
def test_a_simulation_reads_the_features_of_each_image_once(
    archive: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[bytes] = Counter()
    read = FeatureStore.read

    def counted(store: FeatureStore, keys: list[bytes]) -> Any:
        reads.update(keys)
        return read(store, keys)

    monkeypatch.setattr(FeatureStore, "read", counted)
    display = Display(Console(file=io.StringIO()))
    assert simulate(config(archive, "run", **settings), display).baselines
    assert sorted(reads.values()) == [1] * 88 + [2], "one of the 90 images has a copy"
