from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import (
    HeadSpec,
    initial_head,
    load_head,
    load_moments,
    mix,
    save_head,
)
from fedtransfer.common.head.keras_head import build_head


@pytest.mark.parametrize("hidden", [0, 7])
def test_arrays_fit_the_model(hidden: int) -> None:
    spec = HeadSpec(5, 3, hidden_units=hidden, dropout=0.5, l2=0.1)
    head = initial_head(spec, 0)
    assert (
        tuple(array.shape for array in head)
        == spec.shapes
        == tuple(tuple(v.shape) for v in build_head(spec).trainable_variables)
    )
    assert (head[-2] == 0).all()
    assert len(head) == 2 or np.ptp(head[0]) > 0
    for a, b in zip(head, initial_head(spec, 0), strict=True):
        np.testing.assert_array_equal(a, b)


@given(st.floats(0, 1))
def test_mixed_heads_lie_on_the_line_and_at_its_ends_are_the_heads(share: float) -> None:
    rng = np.random.default_rng(0)
    one, other = (tuple(rng.normal(size=(3, 2)).astype(np.float32) for _ in range(2)) for _ in range(2))
    for mixed, a, b in zip(mix(one, other, share), one, other, strict=True):
        np.testing.assert_allclose(mixed, (1 - share) * a.astype(np.float64) + share * b, atol=1e-6)
    for mixed, a in zip(mix(one, one, share), one, strict=True):
        np.testing.assert_array_equal(mixed, a)
    overflown = (np.full((3, 2), np.inf, np.float32), one[1])
    assert mix(one, overflown, 0.0) is one
    assert mix(overflown, one, 1.0) is one


def test_equal_heads_make_equal_files(tmp_path: Path) -> None:
    head = (np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32))
    for name in ("a.npz", "b.npz"):
        save_head(tmp_path / name, head, ("Katze", "犬", "c d"), "f00")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    arrays, classes, fingerprint = load_head(tmp_path / "a.npz")
    np.testing.assert_array_equal(arrays[0], head[0])
    assert (classes, fingerprint) == (("Katze", "犬", "c d"), "f00")


def test_moments_are_kept_beside_the_head(tmp_path: Path) -> None:
    head, moments = (
        (np.ones((2, 3), np.float32), np.ones(3, np.float32)),
        (np.array([0.1, 2.0]), np.array([1e-9, 3.0])),
    )
    save_head(tmp_path / "with.npz", head, ("a", "b", "c"), "f00", moments)
    save_head(tmp_path / "without.npz", head, ("a", "b", "c"), "f00")
    for name in ("with.npz", "without.npz"):
        arrays, classes, fingerprint = load_head(tmp_path / name)
        assert [array.shape for array in arrays] == [(2, 3), (3,)]
        assert (classes, fingerprint) == (("a", "b", "c"), "f00")
    kept = load_moments(tmp_path / "with.npz")
    assert kept is not None
    np.testing.assert_array_equal(kept, moments)
    assert load_moments(tmp_path / "without.npz") is None


def test_a_file_that_is_no_head(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"x\.npz: not a head"):
        load_head(tmp_path / "x.npz")
