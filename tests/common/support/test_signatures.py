import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.common.support.keys import DOMAIN, is_signed, sign


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_the_owner_signed_these_bytes_and_no_others(curve: ec.EllipticCurve) -> None:
    key, other = ec.generate_private_key(curve), ec.generate_private_key(curve)
    signature = sign(key, b"round 1")
    assert is_signed(key.public_key(), b"round 1", signature)
    assert not is_signed(key.public_key(), b"round 2", signature)
    assert not is_signed(key.public_key(), b"round 1\0", signature)
    assert not is_signed(other.public_key(), b"round 1", signature)
    for spoilt in (b"", b"\0" * len(signature), signature[:-1], signature + b"\0"):
        assert not is_signed(key.public_key(), b"round 1", spoilt)


def test_what_the_key_signs_for_other_purposes_counts_for_nothing_here() -> None:
    """The key signs SuperLink's requests too: a coordinator sees those and can choose the times."""
    key, scheme = ec.generate_private_key(ec.SECP384R1()), ec.ECDSA(hashes.SHA384())
    assert not is_signed(key.public_key(), b"2026-11-24", key.sign(b"2026-11-24", scheme))
    assert not is_signed(
        key.public_key(), b"2026-11-24", key.sign(b"another purpose\0" + b"2026-11-24", scheme)
    )
    assert is_signed(key.public_key(), b"2026-11-24", key.sign(DOMAIN + b"2026-11-24", scheme))
