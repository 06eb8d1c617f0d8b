"""Keys agreed on, boxes and pads."""

import numpy as np
import pytest

from fedtransfer.common.masks.messages import Session
from fedtransfer.common.masks.secrecy import agreed, agreement_key, derived, pad, public, seal, unseal


def folded(key: bytes) -> int:
    """What Flower's SecAgg+ makes of a mask's seed: 32 bits, by exclusive or of its words."""
    return int(np.bitwise_xor.reduce(np.frombuffer(key, ">u4")))


def test_two_sites_agree_and_a_third_does_not() -> None:
    anna, bert, carl = (agreement_key(secret) for secret in (1, 2, 3))
    key = agreed(anna, public(bert), b"purpose")
    assert agreed(bert, public(anna), b"purpose") == key
    assert agreed(carl, public(anna), b"purpose") != key
    assert agreed(anna, public(bert), b"other purpose") != key


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_a_public_key_that_makes_all_secrets_the_same_is_refused(point: bytes) -> None:
    with pytest.raises(ValueError, match="shared key"):
        agreed(agreement_key(1), point, b"purpose")


def test_keys_with_the_same_fold_of_32_bits_give_different_masks() -> None:
    one = np.random.default_rng(0).bytes(32)
    swapped = one[4:8] + one[:4] + one[8:]  # as a set of words the same
    changed = bytes([one[0] ^ 0xFF, *one[1:4], one[4] ^ 0xFF, *one[5:]])
    pads = [pad(key, 1000) for key in (one, swapped, changed)]
    assert folded(one) == folded(swapped) == folded(changed)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not (pads[a] == pads[b]).any()


def test_a_pad_is_repeated_by_its_key_and_uniform() -> None:
    key = derived(b"secret", b"purpose")
    words = pad(key, 2**15)
    assert (words == pad(key, 2**15)).all()
    assert (pad(key, 10) == words[:10]).all()
    observed = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    assert (np.square(observed - expected) / expected).sum() < 380, (
        "chi-square of 255 degrees: below 1e-6 by chance"
    )


def test_a_box_opens_with_its_key_and_purpose_only() -> None:
    box = seal(bytes(32), b"from anna to bert", b"shares")
    assert unseal(bytes(32), b"from anna to bert", box) == b"shares"
    changed = bytes([*box[:-1], box[-1] ^ 1])
    for key, bound, sent in (
        (b"\1" * 32, b"from anna to bert", box),
        (bytes(32), b"from bert to anna", box),
        (bytes(32), b"from anna to bert", changed),
    ):
        with pytest.raises(ValueError, match="does not open"):
            unseal(key, bound, sent)


def test_what_is_bound_to_a_session_differs_in_each_part_of_it() -> None:
    base = Session("1", 2, "train", "aa")
    others = [
        Session("2", 2, "train", "aa"),
        Session("1", 3, "train", "aa"),
        Session("1", 2, "evaluate", "aa"),
        Session("1", 2, "train", "ab"),
    ]
    values = {session.context("mask", "anna", "bert") for session in (base, *others)}
    values |= {
        base.context("mask", "annab", "ert"),
        base.context("box", "anna", "bert"),
        base.context("mask", ("anna", "bert")),
    }
    assert len(values) == 8
