import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.config.config import RunConfig
from fedtransfer.server.sites.cohort import cohort_size, draw_cohort, quorum


@given(
    st.sets(st.text(min_size=1), min_size=1, max_size=30),
    st.floats(0.01, 1),
    st.integers(0, 99),
    st.integers(1, 99),
    st.randoms(),
)
def test_a_cohort_depends_on_names_seed_and_round_only(
    names: set[str], fraction: float, seed: int, round: int, order
) -> None:
    shuffled = list(names)
    order.shuffle(shuffled)
    config = RunConfig(fraction=fraction, seed=seed)
    size = cohort_size(len(names), config)
    cohort = draw_cohort(shuffled, size, config, round)
    assert cohort == draw_cohort(sorted(names), size, config, round)
    assert list(cohort) == sorted(set(cohort) & names)
    assert len(cohort) == max(1, int(fraction * len(names) + 0.5))


def test_every_site_takes_its_turn() -> None:
    names = [f"site-{i}" for i in range(10)]
    turns = Counter(site for round in range(1, 1001) for site in draw_cohort(names, 3, RunConfig(), round))
    assert set(turns) == set(names)
    assert all(count == pytest.approx(300, abs=75) for count in turns.values())


def test_a_round_tried_again_draws_anew() -> None:
    names = [f"site-{i}" for i in range(20)]
    assert len({draw_cohort(names, 5, RunConfig(), 1, attempt) for attempt in (1, 2, 3)}) == 3


def test_poisson_draws_each_site_by_itself_and_sometimes_none() -> None:
    names, config = [f"site-{i}" for i in range(10)], RunConfig(sampling="poisson", fraction=0.3)
    sizes = Counter(len(draw_cohort(names, 3, config, round)) for round in range(1, 2001))
    for size in range(7):  # the binomial distribution B(10, 0.3)
        expected = 2000 * math.comb(10, size) * 0.3**size * 0.7 ** (10 - size)
        assert sizes[size] == pytest.approx(expected, abs=4 * expected**0.5 + 3)


def test_quorum_is_half_or_what_is_asked_for() -> None:
    assert [quorum(n, 0) for n in (1, 2, 3, 10)] == [1, 1, 2, 5]
    assert quorum(10, 7) == 7
