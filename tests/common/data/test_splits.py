from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.data.images import Image, split_of

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS, st.integers(0, 99), st.text(), st.text())
def test_only_content_and_seed_matter(key: bytes, seed: int, path: str, label: str) -> None:
    assert split_of(Image(path, label), key, seed, 0.2, 0.2) == split_of(
        Image("other", "cat"), key, seed, 0.2, 0.2
    )


@given(st.lists(KEYS, min_size=2), st.text(min_size=1), st.integers(0, 99))
def test_a_group_is_never_on_two_sides(keys: list[bytes], group: str, seed: int) -> None:
    assert len({split_of(Image("a", "b", "", group), key, seed, 0.3, 0.3) for key in keys}) == 1


@given(KEYS, st.integers(0, 99))
def test_supplied_splits_are_kept(key: bytes, seed: int) -> None:
    for split in ("train", "validation", "test"):
        assert split_of(Image("a", "b", split), key, seed, 0.5, 0.5) == split
    assert split_of(Image("a", "b", "development"), key, seed, 0.5, 0.5) != "test"


def test_shares_are_as_asked_and_seeds_differ() -> None:
    keys = [i.to_bytes(32) for i in range(20_000)]
    splits = [split_of(Image("a", "b"), key, 0, 0.2, 0.2) for key in keys]
    shares = {split: count / len(keys) for split, count in Counter(splits).items()}
    assert abs(shares["test"] - 0.2) < 0.01
    assert abs(shares["validation"] - 0.16) < 0.01
    assert splits != [split_of(Image("a", "b"), key, 1, 0.2, 0.2) for key in keys]
