import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.schedule import rate

kinds = st.sampled_from(["linear", "cosine", "exponential"])


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [("constant", 1.0), ("linear", 0.505), ("cosine", 0.505), ("exponential", 0.1)],
)
def test_the_rate_halfway_is_the_formula_s(schedule: str, middle: float) -> None:
    config = RunConfig(rounds=11, schedule=schedule, final_rate=0.01)
    assert rate(config, 1) == 1.0
    assert rate(config, 6) == pytest.approx(middle)
    assert rate(config, 11) == pytest.approx(1.0 if schedule == "constant" else 0.01)


def test_a_quarter_of_the_way_cosine_is_above_the_line() -> None:
    config = RunConfig(rounds=9, schedule="cosine", final_rate=0.2)
    assert rate(config, 3) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)


@given(kinds, st.integers(2, 300), st.integers(0, 20), st.floats(1e-3, 0.9))
def test_it_rises_to_one_and_falls_to_the_final_rate(schedule: str, rounds: int, warmup: int, final: float) -> None:
    config = RunConfig(rounds=rounds + warmup, schedule=schedule, warmup_rounds=warmup, final_rate=final)
    shares = [rate(config, r) for r in range(1, rounds + warmup + 1)]
    assert shares[:warmup] == pytest.approx([r / (warmup + 1) for r in range(1, warmup + 1)])
    assert shares[warmup] == 1.0
    assert all(a > b for a, b in zip(shares[warmup:], shares[warmup + 1 :], strict=False))
    assert shares[-1] == pytest.approx(final)
    assert rate(config, rounds + warmup + 7) == shares[-1]


def test_a_single_round_has_the_full_rate() -> None:
    assert rate(RunConfig(rounds=1, schedule="linear"), 1) == 1.0
