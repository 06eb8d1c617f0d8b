"""Updates far larger than the others of a round."""

import logging

import numpy as np
import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import Description, Update
from fedtransfer.server.rounds.progress import class_weights
from fedtransfer.server.sites.admission import Answers
from fedtransfer.server.sites.bounds import norm_of
from fedtransfer.server.sites.federation import Federation
from fedtransfer.server.sites.outliers import reaches, without_outliers

EMPTY = Counts.empty(2)


def update(norm: float, examples: int = 10) -> Update:
    """Return an update of this norm, before it is weighted."""
    change = np.array([[0.6, 0.8]], np.float32) * np.float32(norm * examples)
    return Update(3, "f" * 64, "c" * 16, EMPTY, EMPTY, examples, (change,))


def left(
    *updates: Update, largest: float = 0.0, reach: float = 1.0, **settings: object
) -> tuple[list[str], float]:
    """Return the sites a, b, … that are left out, and the largest median so far.

    Site c has this reach, the others have 1.
    """
    answers = Answers(dict(zip("abcde", updates, strict=False)))
    reaches = dict.fromkeys("abcde", 1.0) | {"c": reach}
    result, largest = without_outliers(answers, RunConfig(**settings), reaches, largest)
    assert set(result.admitted) | set(result.refused) == set(answers.admitted)
    return sorted(result.refused), largest


def test_the_norm_is_of_a_sites_change_of_the_head() -> None:
    assert norm_of(update(2.0, examples=40), "examples") == pytest.approx(2.0)
    assert norm_of(update(2.0, examples=40), "uniform") == pytest.approx(80.0)


def test_an_update_above_ten_medians_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert left(update(1.0), update(2.0), update(21.0))[0] == ["c"]
    assert "round 3: c is left out: sent an update of norm 21, above 20, which is 10 times" in caplog.text
    assert left(update(1.0), update(2.0), update(19.0))[0] == []
    assert left(update(1.0), update(1.0), update(30.0), update(40.0), update(1.0))[0] == ["c", "d"]


def test_a_site_of_longer_reach_may_go_further_and_one_of_shorter_as_far() -> None:
    assert left(update(1.0), update(1.0), update(90.0), reach=10.0)[0] == []
    assert left(update(1.0), update(1.0), update(110.0), reach=10.0)[0] == ["c"]
    assert left(update(1.0), update(1.0), update(9.0), reach=0.1)[0] == []
    assert left(update(1.0), update(1.0), update(110.0), reach=1e6)[0] == ["c"], (
        "it reports its images itself"
    )


def test_the_reach_of_a_site_is_its_steps_and_the_weight_of_its_images() -> None:
    images = {"a": {"x": (65, 9, 9)}, "b": {"x": (30, 0, 0)}, "c": {"y": (5, 0, 0)}, "d": {"y": (0, 3, 3)}}
    descriptions = {site: Description(counts, 0) for site, counts in images.items()}
    federation = Federation(dict.fromkeys(images, 1), descriptions, ("x", "y"), {})
    assert reaches(federation, RunConfig(batch_size=32)) == {"a": 3.0, "b": 1.0, "c": 1.0}
    balanced = reaches(federation, RunConfig(batch_size=32, class_balance=0.9))
    x, y = class_weights(federation.training_images, 0.9)
    assert balanced == pytest.approx({"a": 3 * x, "b": x, "c": y})
    assert y > 2 * x


def test_the_bound_follows_the_largest_median_of_the_rounds() -> None:
    assert left(update(1.0), update(2.0), update(3.0))[1] == pytest.approx(2.0)
    assert left(update(0.1), update(0.1), update(15.0), largest=2.0) == ([], 2.0)
    assert left(update(0.1), update(0.1), update(21.0), largest=2.0) == (["c"], 2.0)


def test_of_two_nobody_can_say_which_is_too_large() -> None:
    assert left(update(1.0), update(1000.0)) == ([], 0.0)
    assert left(update(1.0), update(1000.0), largest=2.0) == (["b"], 2.0)
    assert left(update(0.0), update(0.0), update(5.0)) == ([], 0.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_update_norm": 1e9},
        {"masks": True},
        {"dp": "image", "noise_multiplier": 1.0, "weighting": "uniform"},
        {"dp": "site", "noise_multiplier": 1.0, "weighting": "uniform"},
    ],
)
def test_another_bound_replaces_it(settings: dict) -> None:
    """The setting's own, that of clipping, or the fixed point of masks."""
    assert left(update(1.0), update(1.0), update(1e6), **settings) == ([], 0.0)
