"""Heads scored on public images at the server: against sums by hand, and within a run."""

from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, losses_of, three_sites
from pictures import class_folders

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import extract, open_store
from fedtransfer.common.features.feature_map import feature_map
from fedtransfer.common.head.head import head_spec
from fedtransfer.common.wire.protocol import Task
from fedtransfer.server.callbacks.tables import Tables, read_history
from fedtransfer.server.rounds.progress import Candidate, Progress
from fedtransfer.server.sites.public import public_images
from fedtransfer.server.strategies.strategy import State

CLASSES = ("blue", "green", "red")
PRIVATE = {
    "weighting": "uniform", "classes": "declared", "class_names": ",".join(CLASSES),
    "dp": "site", "noise_multiplier": 5.0,
}  # fmt: skip
DATA = {
    site: {
        split: (x, np.array([CLASSES["abc".index(name)] for name in labels]))
        for split, (x, labels) in splits.items()
    }
    for site, splits in three_sites().items()
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("public")
    return {
        "public_data": str(class_folders(folder / "images", 0, 5)),
        "store": str(folder / "store"),
        "augment": 0,
    }


def seen(config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """Features as heads see them, and class numbers, read from the store by hand."""
    listed, backbone = read_source(Path(config.public_data)).images, configured_backbone(config)
    store = open_store(backbone, config.store)
    extract(store, backbone, listed)
    x = store.read([image.key() for image in listed])
    return feature_map(config, backbone)(x), np.array([CLASSES.index(image.label) for image in listed])


def test_scores_are_those_of_all_public_images(images: dict[str, str], tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path / "run")
    outcome = run.run(Tables(), rng=np.random.default_rng(0), rounds=3, **PRIVATE, **images)
    x, y = seen(run.config(**images))
    heads = {task.round: task.head for task in run.requests(Task) if task.round <= 3} | {
        4: outcome.progress.state.head
    }
    rows = [row for row in read_history(tmp_path / "run") if row["phase"] in ("train", "score")]
    assert [row["phase"] for row in rows] == ["train"] * 3 + ["score"]
    losses = []
    for row in rows:
        head = heads[int(row["round"])]
        losses.append(losses_of(head, x, y) / len(y))
        assert float(row["accuracy"]) == pytest.approx(
            ((x @ head[0] + head[1]).argmax(1) == y).mean(), abs=1e-6
        )
        assert float(row["loss"]) == pytest.approx(losses[-1], rel=1e-4)
        assert row["validation_loss"] == ""
    assert len(y) == 15
    assert len({row["loss"] for row in rows}) == 4
    assert outcome.best.round == 1 + int(np.argmin(losses)), "it may choose the head"
    counts, matrix = outcome.public
    assert counts.total == matrix.sum() == 15
    assert np.trace(matrix) == ((x @ outcome.best.head[0] + outcome.best.head[1]).argmax(1) == y).sum()


def test_it_may_end_a_private_run_early(images: dict[str, str], tmp_path: Path) -> None:
    outcome = Drawn(DATA, tmp_path / "run").run(
        rng=np.random.default_rng(0), rounds=30, early_stopping=2, **PRIVATE, **images
    )
    assert outcome.progress.round < 30
    assert not outcome.privacy["stopped_by_budget"]


def test_it_takes_the_place_of_the_sites_own_without_privacy_too(
    images: dict[str, str], tmp_path: Path
) -> None:
    run = Drawn(DATA, tmp_path / "run")
    outcome = run.run(rounds=2, classes="declared", class_names="blue,green,red", **images)
    assert [record.phase for record in run.records] == ["train", "train", "score"]
    assert all(record.test.total == 15 and record.validation.total == 0 for record in run.records)
    assert not run.records[-1].answers
    least = min(record.test.mean_loss for record in run.records)
    assert outcome.public[0].mean_loss == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize(
    "settings", [{"hidden_units": 7}, pytest.param({"trainable": "conv5"}, marks=pytest.mark.run)]
)
def test_other_heads_are_scored_as_well(images: dict[str, str], settings: dict) -> None:
    config = RunConfig(**images, **settings)
    public = public_images(config, CLASSES)
    rng, layer = np.random.default_rng(0), settings.get("trainable", "head")
    spec = head_spec(config, configured_backbone(config), 3, layer)
    arrays = tuple(rng.normal(0, 0.3, shape).astype(np.float32) for shape in spec.shapes)
    if spec.above:
        arrays = (*spec.above.pretrained, *arrays[len(spec.above.pretrained) :])
    progress = Progress(0, State(arrays, {}), Candidate(0, 0, arrays), trainable=layer)
    counts = public.counts(progress)
    x, y = seen(config)
    *rest, kernel, bias = arrays
    hidden = np.maximum(x @ rest[0] + rest[1], 0) if "hidden_units" in settings else x
    assert counts.loss == pytest.approx(losses_of((kernel, bias), hidden, y), rel=1e-3)
    assert counts.total == 15


def test_classes_must_be_among_the_runs(images: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"1 class that .* 'red'"):
        public_images(RunConfig(**images), ("blue", "green"))
    assert public_images(RunConfig(), CLASSES) is None
    more = public_images(RunConfig(**images), ("amber", *CLASSES))
    assert set(more.labels) == {1, 2, 3}, "a class without public images is none"
