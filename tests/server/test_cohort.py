from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cohort import draw_cohort


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
    cohort = draw_cohort(shuffled, fraction, seed, round)
    assert cohort == draw_cohort(sorted(names), fraction, seed, round)
    assert list(cohort) == sorted(set(cohort) & names)
    assert len(cohort) == max(1, int(fraction * len(names) + 0.5))


def test_every_site_takes_its_turn() -> None:
    names = [f"site-{i}" for i in range(10)]
    turns = Counter(site for round in range(1, 1001) for site in draw_cohort(names, 0.3, 0, round))
    assert set(turns) == set(names)
    assert all(count == pytest.approx(300, abs=75) for count in turns.values())
