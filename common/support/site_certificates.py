"""The certificate by which nginx tells a site's connection from an outsider's.

A site signs it with its key for the time that its process runs. The coordinator needs nothing but
the site's public key to check it: a trust anchor is a name and a key (RFC 5280, section 6.1.1), and
the name is made from the key. So enrolment needs no second exchange between the two. The anchor's
signature is never checked, so a key that is thrown away makes it.

Both are valid for ever. What ends a site's membership is that its anchor is taken away.
"""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedtransfer.common.support.keys import fingerprint, public_line

_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280: no end


def trust_anchor(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the anchor, in PEM, under which certificates of the key's owner are valid."""
    builder = _builder(_name(key), key, key)
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    builder = builder.add_extension(constraints, critical=True)
    return builder.sign(ec.generate_private_key(ec.SECP384R1()), SHA384()).public_bytes(Encoding.PEM)


def session_identity(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a new private key and its certificate, which ``key`` signs, in one PEM text."""
    session = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedtransfer site")])
    builder = _builder(subject, session.public_key(), key.public_key())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder.add_extension(usage, critical=False).sign(key, SHA384())
    secret = session.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(_name(issuer), subject, key, x509.random_serial_number())
    builder = builder.not_valid_before(_BEGIN).not_valid_after(_END)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer)
    return builder.add_extension(signer, critical=False)


def _name(key: ec.EllipticCurvePublicKey) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fingerprint(public_line(key)))])
