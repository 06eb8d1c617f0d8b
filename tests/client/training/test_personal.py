"""Personal heads against plain NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedtransfer.client.node import Node, keep_result, newest_result
from fedtransfer.client.training.personal import PersonalHeads, make_personal
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import Arrays, HeadSpec, initial_head, load_head
from fedtransfer.common.wire.protocol import Task

WIDTH, CLASSES = 6, 3
SPEC = HeadSpec(WIDTH, CLASSES)
START = initial_head(SPEC, 0)
Split = tuple[np.ndarray, np.ndarray]


def images(n: int, seed: int, shift: int = 0) -> Split:
    """Features around a centre for each class; ``shift`` renames classes, as another site might."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    x = np.eye(CLASSES, WIDTH)[y] + 0.3 * rng.normal(size=(n, WIDTH))
    return x.astype(np.float32), (y + shift) % CLASSES


def site(shift: int = 0, validation: int = 30, seed: int = 1) -> dict[str, Split]:
    return {
        "train": images(40, seed, shift),
        "validation": images(validation, seed + 1, shift),
        "test": images(50, seed + 2, shift),
    }


def softmax(head: Arrays, x: np.ndarray) -> np.ndarray:
    scores = np.exp(x.astype(np.float64) @ head[0] + head[1])
    return scores / scores.sum(1, keepdims=True)


def loss(head: Arrays, data: Split) -> float:
    return float(-np.log(softmax(head, data[0])[np.arange(len(data[1])), data[1]]).mean())


def descend(head: Arrays, data: Split, rate: float, steps: int) -> list[np.ndarray]:
    """Plain gradient descent on the mean cross-entropy."""
    x, y = data[0].astype(np.float64), np.eye(CLASSES)[data[1]]
    weights, bias = (array.astype(np.float64) for array in head)
    for _ in range(steps):
        error = (softmax((weights, bias), x) - y) / len(x)
        weights, bias = weights - rate * x.T @ error, bias - rate * error.sum(0)
    return [weights, bias]


GLOBAL: Arrays = tuple(array.astype(np.float32) for array in descend(START, images(300, 9), 1.0, 60))


def make(data: dict[str, Split], name: str = "anna", head: Arrays = GLOBAL, **settings: Any) -> PersonalHeads:
    config = RunConfig(**{"rounds": 5, "learning_rate": 0.5, "personal_epochs": 3, **settings})
    return make_personal(SPEC, config, head, data, name)


def equal(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_share_is_that_of_least_validation_loss() -> None:
    data = site()
    # Labels that are noise: neither head is best.
    blurred = {**data, "train": (data["train"][0], images(40, 8)[1])}
    made = make(
        {
            **blurred,
            "train": tuple(np.concatenate(p) for p in zip(blurred["train"], data["train"], strict=True)),
        }
    )
    ends = made.heads["local"], made.heads["global"]

    def mixed(a: float) -> Arrays:
        return tuple((1 - a) * local + a * shared for local, shared in zip(*ends, strict=True))

    losses = {k / 10: loss(mixed(k / 10), data["validation"]) for k in range(11)}
    assert losses[made.share] == min(losses.values())
    for array, expected in zip(made.heads["mixed"], mixed(made.share), strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-6)
    for kind, head in made.heads.items():
        assert made.losses[kind] == pytest.approx(loss(head, data["validation"]), rel=1e-5)
    right = [
        (softmax(head, data["test"][0]).argmax(1) == data["test"][1]).sum() for head in made.heads.values()
    ]
    assert made.correct.tolist() == right
    assert list(made.heads) == ["global", "local", "fine_tuned", "mixed"]


def test_a_share_between_the_ends_is_found() -> None:
    """A head that is too sure, and one trained on few images: the best lies between."""
    data = site(validation=400)
    sure = tuple(6 * array for array in GLOBAL)
    made = make({**data, "train": images(3, 5)}, head=sure)
    assert 0 < made.share < 1
    assert made.best == "mixed"
    assert made.losses["mixed"] < min(made.losses["global"], made.losses["local"])


def test_a_site_that_calls_things_otherwise_keeps_its_own_head() -> None:
    made = make(site(shift=1))
    assert (made.share, made.best in ("local", "mixed")) == (0.0, True)
    assert equal(made.heads["mixed"], made.heads["local"])
    assert made.correct[1] > made.correct[0]
    assert made.losses[made.best] == min(made.losses.values())


def test_equal_heads_tie_to_the_global_one() -> None:
    data = site()
    alone = make(data).heads["local"]
    made = make(data, head=alone)
    assert equal(made.heads["local"], alone)
    assert made.share == 1.0
    assert equal(made.heads["mixed"], alone)


def test_without_validation_images_the_global_head_it_is() -> None:
    made = make(site(shift=1, validation=0))
    assert (made.share, made.best) == (1.0, "global")
    assert equal(made.heads["mixed"], GLOBAL)
    assert made.correct[0] == made.correct[3] < made.correct[1]


def test_a_head_that_overflows_is_never_kept() -> None:
    for validation in (30, 0):
        large = {split: (100 * x, y) for split, (x, y) in site(validation=validation).items()}
        with np.errstate(all="ignore"):
            made = make(large, learning_rate=1e38)
        assert not np.isfinite(made.heads["fine_tuned"][0]).all()
        assert (made.share, made.best) == (1.0, "global")
        assert equal(made.heads["mixed"], GLOBAL), "although the local head may have overflown"
    assert not np.isfinite(made.heads["local"][0]).all()


@pytest.mark.parametrize(
    ("settings", "rate", "epochs"),
    [
        ({"learning_rate": 0.5, "personal_epochs": 4}, 0.5, 4),
        ({"strategy": "fedprox", "proximal": 5.0, "learning_rate": 0.1}, 0.1, 3),
        ({"strategy": "reptile", "personal_epochs": 0, "local_epochs": 2}, 0.5, 2),
        ({"strategy": "perfedavg", "personal_epochs": 0, "local_epochs": 2, "inner_rate": 0.25}, 0.25, 2),
        ({"strategy": "perfedavg", "inner_rate": 0.25}, 0.25, 3),
    ],
)
def test_fine_tuning_is_plain_descent_from_the_global_head(settings: dict, rate: float, epochs: int) -> None:
    """One step an epoch, on all images; nothing holds the head back."""
    data = site()
    tuned = make(data, batch_size=64, **settings).heads["fine_tuned"]
    for array, expected in zip(tuned, descend(GLOBAL, data["train"], rate, epochs), strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5)


def test_local_training_takes_the_federations_epochs_and_keeps_the_best() -> None:
    data = site(validation=0)
    local = make(data, batch_size=64, rounds=4, local_epochs=3, strategy="fedprox", proximal=5.0).heads[
        "local"
    ]
    for array, expected in zip(local, descend(START, data["train"], 0.5, 12), strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5)

    noise = {**site(), "train": (site()["train"][0], images(40, 8)[1])}
    made = make(noise, batch_size=64, rounds=40)
    path = [descend(START, noise["train"], 0.5, epochs) for epochs in range(1, 41)]
    assert made.losses["local"] == pytest.approx(
        min(loss(tuple(head), noise["validation"]) for head in path), rel=1e-4
    )


def test_equal_in_every_bit_and_different_for_another_site_or_seed() -> None:
    one, again = make(site()), make(site())
    assert all(equal(one.heads[kind], again.heads[kind]) for kind in one.heads)
    for other in (make(site(), name="berta"), make(site(), seed=1)):
        assert not equal(one.heads["fine_tuned"], other.heads["fine_tuned"])
        assert not equal(one.heads["local"], other.heads["local"])


def test_a_site_without_training_or_test_images() -> None:
    none = images(0, 0)
    made = make({**site(), "train": none, "test": none})
    assert equal(made.heads["fine_tuned"], GLOBAL)
    assert equal(made.heads["local"], START)
    assert made.correct.tolist() == [0, 0, 0, 0]


def test_kept_beside_the_result(tmp_path: Path) -> None:
    classes = ("a", "b", "c")
    result, own = (Task("anna", 4, classes, head) for head in (GLOBAL, START))
    node = Node("", tmp_path / "simulated")
    for personal in (True, False, True):
        node.keep(own if personal else result, RunConfig(), "print", 7, personal=personal)
    keep_result(tmp_path / "results", result, RunConfig(), "print", 7)
    keep_result(tmp_path / "results", own, RunConfig(seed=3), "print", 7, personal=True)
    for folder in (tmp_path / "simulated", newest_result(tmp_path / "results").folder):
        head, names, fingerprint = load_head(folder / "personal-head.npz")
        assert equal(head, START)
        assert (names, fingerprint) == (classes, "print")
        assert equal(load_head(folder / "head.npz")[0], GLOBAL)
    assert len(list((tmp_path / "results").iterdir())) == 1
