"""Any t shares give a secret; fewer fit every secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.masks.shamir import PRIME, combine, draw, split

SECRETS = st.integers(0, PRIME - 1)


@given(SECRETS, st.integers(1, 12), st.integers(0, 8), st.randoms())
def test_any_threshold_of_shares_gives_the_secret(secret: int, threshold: int, more: int, random) -> None:
    points = random.sample(range(1, 1000), threshold + more)
    shares = dict(zip(points, split(secret, threshold, points), strict=True))
    chosen = random.sample(points, threshold)
    assert combine({point: shares[point] for point in chosen}) == secret


@given(SECRETS, SECRETS)
def test_one_share_too_few_fits_any_other_secret(secret: int, other: int) -> None:
    """Through t - 1 shares and any value at 0 goes a polynomial: its share elsewhere finds it."""
    known = dict(zip((1, 2), split(secret, 3, (1, 2)), strict=True))
    # The last share that would make it ``other``: other = Σ w_x share_x, solved for the share at 3.
    without = combine({**known, 3: 0})
    weight = (combine({**known, 3: 1}) - without) % PRIME
    fitting = (other - without) * pow(weight, -1, PRIME) % PRIME
    assert combine({**known, 3: fitting}) == other


def test_shares_of_one_secret_differ_each_time() -> None:
    assert split(5, 2, (1, 2)) != split(5, 2, (1, 2))
    assert split(5, 1, (1, 2)) == [5, 5], "with threshold 1 a share is the secret"


def test_secrets_fill_their_range() -> None:
    drawn = [draw() for _ in range(400)]
    assert len(set(drawn)) == 400
    assert max(drawn) > PRIME * 0.9
    assert min(drawn) < PRIME * 0.1
    assert sum(secret > PRIME / 2 for secret in drawn) == pytest.approx(200, abs=60)
