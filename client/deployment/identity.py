"""Who a real site is among those that it shares masks with, and by which keys it knows them.

The coordinator enrols keys and says whose are whose, so it could invent sites and share masks with itself. A site that
pins a roster, got from the others' own people, does not believe it: who is not on the roster is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import SiteError
from fedtransfer.common.support.keys import fingerprint, public_line, read_line
from fedtransfer.common.support.roster import Roster, read_roster
from fedtransfer.common.support.signatures import is_signed, sign

_SHOWN = 64  # characters of a name that somebody else gave


@dataclass(frozen=True)
class SiteIdentity:
    """The site's private key, and the public keys of those that it shares masks with, by name."""

    key: ec.EllipticCurvePrivateKey
    peers: Mapping[str, ec.EllipticCurvePublicKey]

    def sign(self, data: bytes) -> bytes:
        """Sign as this site."""
        return sign(self.key, data)

    def verify(self, site: str, data: bytes, signature: bytes) -> None:
        """Check that ``site`` signed ``data``.

        Raises:
            SiteError: it did not, or the coordinator has not said by which key it signs.
        """
        if site not in self.peers:
            raise SiteError("unknown-peer", f"the coordinator gave no key of {site[:_SHOWN]!r}, by which it would sign")
        if not is_signed(self.peers[site], data, signature):
            raise SiteError(
                "wrong-signature",
                f"what came as from {site[:_SHOWN]!r} is not signed by its key; the coordinator, or somebody at its machine, "
                "has changed or made it",
            )


def identity_among(site: SiteFolder, name: str, told: Mapping[str, str]) -> SiteIdentity:
    """Return who the site is among others.

    Args:
        site: its folder.
        name: the name under which it is enrolled, as the coordinator says.
        told: names → public keys (OpenSSH's one-line form) of those that it is to share masks with, as the coordinator
            says; it may be among them.

    Raises:
        SiteError: a key is none, two names have the same one, or the site's roster has another one or none for a name.
        UserError: the site's key or its roster cannot be read.
    """
    key, own = load_keys(site.key)
    peers = {peer: _read(peer, line) for peer, line in told.items()}
    known = {name: public_line(own)} | {peer: public_line(public) for peer, public in peers.items()}
    if known[name] != public_line(own):
        raise SiteError("other-key", "the coordinator gives this site's name another key than this site has")
    if len(set(known.values())) < len(known):
        raise SiteError("same-key", "the coordinator gives several names the same key; a site would count as two")
    if site.roster:
        pinned = read_roster(site.roster)
        for peer, line in known.items():
            if peer != name:
                refuse_unpinned(pinned, peer, fingerprint(line))
    return SiteIdentity(key, peers)


def refuse_unpinned(pinned: Roster, peer: str, given: str) -> None:
    """Refuse to share masks with ``peer``, whose key has this fingerprint, unless that is what the roster says.

    Raises:
        SiteError: it has another one or none for that name; the text says what its people can do.
    """
    told = f"{peer[:_SHOWN]!r}, to which the coordinator gives key {given},"
    if peer not in pinned.sites:
        raise SiteError(
            "not-on-roster",
            f"{told} is not on this site's roster, so it shares no masks with it; this site's people compare the fingerprint with "
            "that site's by telephone and add it to roster.toml, or the run goes without that site",
        )
    if pinned.sites[peer] != given:
        raise SiteError(
            "not-on-roster",
            f"{told} has another key on this site's roster; if it has a new one, this site's people compare the fingerprint "
            "with that site's by telephone and change roster.toml; else somebody poses as it",
        )


def _read(peer: str, line: str) -> ec.EllipticCurvePublicKey:
    try:
        return read_line(line)
    except ValueError:
        raise SiteError("no-key", f"what the coordinator gives as {peer[:_SHOWN]!r}'s public key is none") from None
