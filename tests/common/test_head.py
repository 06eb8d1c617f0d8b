from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.head import HeadSpec, build_head, initial_head, load_head, save_head


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


def test_equal_heads_make_equal_files(tmp_path: Path) -> None:
    head = (np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32))
    for name in ("a.npz", "b.npz"):
        save_head(tmp_path / name, head, ("Katze", "犬", "c d"), "f00")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    arrays, classes, fingerprint = load_head(tmp_path / "a.npz")
    np.testing.assert_array_equal(arrays[0], head[0])
    assert (classes, fingerprint) == (("Katze", "犬", "c d"), "f00")


def test_a_file_that_is_no_head(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"x\.npz: not a head"):
        load_head(tmp_path / "x.npz")
