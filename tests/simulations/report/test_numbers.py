"""Numbers as the page writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.simulations.report.texts import epsilon


@given(st.floats(1e-6, 1e6))
def test_no_less_than_the_epsilon_spent_is_told(value: float) -> None:
    told = float(epsilon(value).replace(",", ""))
    assert value <= told <= 1.01 * value


@pytest.mark.parametrize(
    ("value", "told"), [(7.99999, "8"), (0.999473, "1"), (0.3, "0.3"), (2.001, "2.01"), (1234.0, "1,240")]
)
def test_epsilon_has_three_digits(value: float, told: str) -> None:
    assert epsilon(value) == told
