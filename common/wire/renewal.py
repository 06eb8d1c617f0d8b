"""The renewal of a site's key: its next public key, signed with the key that is enrolled.

It travels with the site's answers until the coordinator has taken it up, so nobody has to carry a
key. Whoever has the enrolled key can renew it, as he can do all else that the site can.
"""

import json

from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.common.support.keys import RENEWAL, is_signed, public_line, read_line, sign


def renewal(key: ec.EllipticCurvePrivateKey, following: ec.EllipticCurvePublicKey) -> str:
    """Return the renewal of an enrolled key by the next one."""
    line = public_line(following)
    signature = sign(key, _statement(public_line(key.public_key()), line), RENEWAL)
    return json.dumps({"key": line, "signature": signature.hex()})


def renewed_line(text: str, enrolled: str) -> str:
    """Return the next public key in a renewal of the ``enrolled`` one, both in OpenSSH's form.

    Raises:
        ValueError: it is no renewal, or not signed with the enrolled key.
    """
    try:
        values = json.loads(text)
        line, signature = public_line(read_line(str(values["key"]))), bytes.fromhex(str(values["signature"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"no renewal of a key ({type(error).__name__})") from None
    before = read_line(enrolled)
    if not is_signed(before, _statement(public_line(before), line), signature, RENEWAL):
        raise ValueError("a renewal that is not signed with the enrolled key")
    return line


def _statement(before: str, after: str) -> bytes:
    return json.dumps([before, after]).encode()
