"""What a site that lies about its losses can do to the choice of the head."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import Scores
from fedtransfer.server.rounds.choice import MOST, WORST, bounded, federated_loss

CLASSES = 10


def scores(*parts: tuple[float, int]) -> list[Scores]:
    """Return scores of sites given as (loss of an image, validation images)."""
    empty = np.zeros(CLASSES, np.int64)
    counts = [Counts(np.r_[n, empty[1:]], np.r_[n, empty[1:]], empty, n * loss) for loss, n in parts]
    return [Scores(1, "f" * 64, "c" * 16, each, Counts.empty(CLASSES)) for each in counts]


@given(st.lists(st.tuples(st.floats(0.5, 1.0), st.integers(10, 15)), min_size=1, max_size=8))
def test_honest_sites_are_chosen_by_with_the_bits_of_the_plain_mean(parts: list[tuple[float, int]]) -> None:
    """None of these has three times the others' images, or four times their mean loss."""
    answers = scores(*parts)
    total = sum((answer.validation for answer in answers), Counts.empty(CLASSES))
    assert federated_loss(answers) == total.mean_loss


def test_without_images_there_is_no_loss() -> None:
    assert np.isnan(federated_loss([]))
    assert np.isnan(federated_loss(scores((0.0, 0), (0.0, 0))))


def test_two_sites_count_as_they_are() -> None:
    assert federated_loss(scores((1.0, 10), (3.0, 1000))) == pytest.approx(3010 / 1010)
    assert federated_loss(scores((1.0, 10), (3.0, 1000), (0.0, 0))) == pytest.approx(3010 / 1010)


def test_a_site_counts_for_three_times_the_others_images_and_four_times_their_loss() -> None:
    assert federated_loss(scores((1.0, 10), (1.0, 10), (0.5, 2**31))) == pytest.approx((20 + 30) / 80)
    assert federated_loss(scores((1.0, 10), (1.0, 10), (27.0, 10))) == pytest.approx((20 + 40) / 30)


def test_a_loss_up_to_that_of_guessing_counts_however_small_the_others_are() -> None:
    assert federated_loss(scores((0.0, 10), (0.0, 10), (27.0, 10))) == pytest.approx(np.log(CLASSES) / 3)
    assert federated_loss(scores((0.0, 10), (0.0, 10), (0.3, 10))) == pytest.approx(0.1)


@given(
    st.lists(st.tuples(st.integers(10, 15), st.floats(0.5, 1)), min_size=2, max_size=9),
    st.tuples(st.floats(0.01, 2.3), st.floats(0.01, 2.3)),
    st.integers(1, 2**31), st.tuples(st.floats(0, 27), st.floats(0, 27)),
)  # fmt: skip
def test_the_head_that_a_liar_has_chosen_is_no_worse_than_stated(
    honest: list[tuple[int, float]], heads: tuple[float, float], images: int, lies: tuple[float, float]
) -> None:
    """Of two heads: ``heads`` are their losses at honest sites, each up to twice another's."""
    counts = np.array([*(n for n, _ in honest), images])
    of_honest = [[n * part * head for head in heads] for n, part in honest]
    losses = np.array([*of_honest, np.multiply(images, lies)])
    chosen = bounded(losses, counts, CLASSES)[0].sum(0).argmin()
    others, number = losses[:-1].sum(0), counts[:-1].sum()
    weight = min(images, MOST * number) / number  # s/(1 - s)
    most = others.min() + weight * max(WORST * others.min(), number * np.log(CLASSES))
    assert others[chosen] <= most * (1 + 1e-6)
