"""A site's part of secure aggregation: what it checks in each stage, and what it tells.

Bonawitz et al. 2017 (doi 10.1145/3133956.3133982), Figure 4, with the check that all mean the same survivors. Each stage
is answered once. Of another site, one shows the server a single share: of its pad's seed if it is in the list of
survivors that was agreed on, of its key if it is not. A list is agreed on by more than half of all sites, which sign one
list a session each, so there is one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedtransfer.client.masking.secrets import AGREED, ANSWERED, INVITED, SHARED, Held, Safe
from fedtransfer.client.masking.shared_noise import with_share
from fedtransfer.client.node import Node
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.masks import messages, shamir
from fedtransfer.common.masks.graph import Graph, graph, least_sites
from fedtransfer.common.masks.messages import Masked, Stage
from fedtransfer.common.masks.secrecy import SEALED, agreed, agreement_key, derived, pad, public, seal, unseal
from fedtransfer.common.masks.session import Session, common_part, common_settings
from fedtransfer.common.masks.vector import encode, places
from fedtransfer.common.privacy.randomness import secret_generator
from fedtransfer.common.wire.protocol import FINISH, Answer, Confusion, Request


@dataclass(frozen=True)
class Masking:
    """The masks of a node.

    Attributes:
        safe: what it keeps between stages.
        place: whose it is.
        config: the run's settings, as they are here.
    """

    safe: Safe
    place: Node
    config: RunConfig

    def answer(self, asked: Stage) -> Any:
        """Answer what is asked beside requests.

        Raises:
            SiteError: it must not be done; the text says why.
        """
        if not self.config.masks:
            raise SiteError("not-of-this-run", "asked for masks; the run's settings have none")
        return _STAGES[type(asked)](self, asked)

    def invited(self, asked: messages.Invitation) -> messages.PublicKeys:
        """Make two keys for a session."""
        held = Held(
            asked.run, asked.round, asked.kind, asked.nonce, asked.site, INVITED, key=shamir.draw(), box=shamir.draw()
        )
        self.safe.keep(held)
        mask, box = (public(agreement_key(secret)).hex() for secret in (held.key, held.box))
        identity = self.place.identity(asked.site, {})
        signature = identity.sign(self._vouched(asked.session, asked.site, mask, box)) if identity else b""
        return messages.PublicKeys(mask, box, signature.hex())

    def shared(self, asked: messages.Peers) -> messages.Boxes:
        """Check whose keys these are, and share the secrets behind one's own masks with one's neighbours."""
        held = self.safe.step(asked.nonce, asked.site, INVITED)
        self._check_peers(asked, held)
        held = replace(
            held, done=SHARED, seed=shamir.draw(), names=asked.names, masks=asked.masks, boxes=asked.boxes,
            enrolled=asked.enrolled,
        )  # fmt: skip
        numbers, around = self._graph(held)
        own = agreement_key(held.box)
        points = [held.names.index(name) + 1 for name in around]
        shares = zip(
            *(shamir.split(secret, numbers.threshold, points) for secret in (held.seed, held.key)), strict=True
        )
        sealed = [
            seal(*_box(held, own, (held.site, name)), b"".join(each.to_bytes(shamir.BYTES, "big") for each in pair))
            for name, pair in zip(around, shares, strict=True)
        ]
        self.safe.keep(held)
        return messages.Boxes(np.frombuffer(b"".join(sealed), np.uint8).reshape(-1, SEALED))

    def masked(self, asked: Request, kind: str, compute: Callable[[], Answer]) -> Answer:
        """Answer a request under masks: ``compute`` makes the answer, of which nothing is told but its masked numbers.

        Without masks a site takes the result of a run only, and tells nothing of how it does.
        """
        if not asked.nonce:
            if kind != FINISH:
                raise SiteError(
                    "no-masks", "asked for an answer without masks, and the run's settings say that none is given"
                )
            return untold(compute(), len(asked.classes))
        held = self.safe.step(asked.nonce, asked.site, SHARED)
        if (held.round, held.kind) != (asked.round, kind):
            raise SiteError("other-session", "asked for an answer under the masks of another round, or of another kind")
        held = self._opened(held, asked)
        self.safe.keep(held)  # before any answer: two under the same masks would tell how they differ
        answer = compute()
        numbers, around = self._graph(held)
        rng, bits = secret_generator(), places(asked)
        vector = encode(answer, numbers.sites, rng, bits, with_share(answer, asked, self.config, rng))
        vector += pad(
            derived(held.seed.to_bytes(shamir.BYTES, "big"), held.session.bound("pad", held.site)), len(vector)
        )
        own, alike = agreement_key(held.key), common_part(asked, self.config)
        for name in around:
            if name in held.received:
                bound = held.session.bound("mask", alike, *sorted((held.site, name)))
                key = _agreed(own, _key(held, held.masks, name), bound)
                if held.site < name:
                    vector += pad(key, len(vector))
                else:
                    vector -= pad(key, len(vector))
        return Masked(answer.round, answer.fingerprint, answer.classes, vector)

    def consent(self, asked: messages.Survivors) -> messages.Consent:
        """Agree to unmask the sum over these sites, once they are enough and oneself among them."""
        held = self.safe.step(asked.nonce, asked.site, ANSWERED)
        numbers, _ = self._graph(held)
        self._check_list(asked.names, held, numbers.least)
        self.safe.keep(replace(held, done=AGREED, survivors=asked.names))
        identity = self.place.identity(held.site, {})
        return messages.Consent(identity.sign(_statement(held, asked.names)).hex() if identity else "")

    def unmask(self, asked: messages.Unmasking) -> messages.Shares:
        """Show one share of each neighbour, for the sum over the survivors agreed on; nothing more of this session."""
        held = self.safe.step(asked.nonce, asked.site, AGREED)
        numbers, around = self._graph(held)
        if asked.names != held.survivors:
            raise SiteError("other-survivors", "asked to unmask the sum over other sites than this site agreed to")
        self._check_signers(asked, held, numbers.quorum)
        self.safe.forget()
        shares = [
            held.received[name][0 if name in asked.names else 1].to_bytes(shamir.BYTES, "big")
            for name in around
            if name in held.received
        ]
        return messages.Shares(np.frombuffer(b"".join(shares), np.uint8).reshape(-1, shamir.BYTES))

    def _check_peers(self, asked: messages.Peers, held: Held) -> None:
        names = asked.names
        least = least_sites(len(names), self.config)
        lists = (asked.masks, asked.boxes, asked.signatures, asked.enrolled)
        if list(names) != sorted(set(names)) or any(len(each) != len(names) for each in lists):
            raise SiteError("wrong-peers", "sent a list of sites that is not in order, or not complete")
        if len(names) < least:
            raise SiteError(
                "too-few-peers",
                f"sent keys of {len(names)} sites; this site shares masks with {least - 1} others at least",
            )
        own = tuple(public(agreement_key(secret)).hex() for secret in (held.key, held.box))
        if held.site not in names or own != tuple(each[names.index(held.site)] for each in (asked.masks, asked.boxes)):
            raise SiteError("not-among-peers", "sent a list of sites without this one, or with other keys of it")
        others = dict(zip(names, asked.enrolled, strict=True))
        if identity := self.place.identity(held.site, others):
            for name, mask, box, signature in zip(names, asked.masks, asked.boxes, asked.signatures, strict=True):
                if name != held.site:
                    identity.verify(name, self._vouched(held.session, name, mask, box), _bytes(signature))

    def _opened(self, held: Held, asked: Request) -> Held:
        """Open the boxes for this site."""
        numbers, around = self._graph(held)
        sharers = asked.sharers
        self._check_list(sharers, replace(held, sharers=held.names), numbers.least)
        senders = [name for name in around if name in sharers]
        sealed = [box.tobytes() for array in asked.boxes for box in array]
        if len(senders) < numbers.threshold or len(sealed) != len(senders):
            raise SiteError(
                "too-few-boxes",
                f"sent {len(sealed)} boxes of {len(senders)} neighbours; this site has masks with "
                f"{numbers.threshold} at least, and needs a box of each",
            )
        received, own = {}, agreement_key(held.box)
        for name, box in zip(senders, sealed, strict=True):
            key, bound = _box(held, own, (name, held.site))
            try:
                pair = unseal(key, bound, box)
            except ValueError:
                raise SiteError(
                    "broken-box", "sent a box that its sender did not seal for this site in this session"
                ) from None
            received[name] = (int.from_bytes(pair[: shamir.BYTES], "big"), int.from_bytes(pair[shamir.BYTES :], "big"))
        return replace(held, done=ANSWERED, sharers=sharers, received=received)

    def _check_list(self, names: tuple[str, ...], held: Held, least: int) -> None:
        if held.site not in names:
            raise SiteError("not-in-total", "sent a list of sites whose answers are added up, without this one")
        if list(names) != sorted(set(names)) or not set(names) <= set(held.sharers):
            raise SiteError("wrong-list", "sent a list of sites that is not in order, or names one without masks")
        if len(names) < least:
            raise SiteError(
                "too-few-sites",
                f"asked for a total over {len(names)} sites; this site is in none of fewer than {least}",
            )

    def _check_signers(self, asked: messages.Unmasking, held: Held, quorum: int) -> None:
        signers = asked.signers
        in_list = list(signers) == sorted(set(signers)) and set(signers) <= set(held.survivors)
        if not in_list or len(signers) < quorum or len(asked.signatures) != len(signers):
            raise SiteError(
                "no-quorum", f"{len(signers)} sites are said to agree on whose answers are added up; {quorum} must"
            )
        others = dict(zip(held.names, held.enrolled, strict=True))
        if identity := self.place.identity(held.site, others):
            for name, signature in zip(signers, asked.signatures, strict=True):
                if name != held.site:
                    identity.verify(name, _statement(held, held.survivors), _bytes(signature))

    def _graph(self, held: Held) -> tuple[Graph, tuple[str, ...]]:
        """Return the session's graph, and the site's neighbours in it."""
        numbers = graph(len(held.names), self.config)
        return numbers, numbers.ring(held.names, held.session.order(held.masks, held.boxes)).around(held.site)

    def _vouched(self, session: Session, site: str, mask: str, box: str) -> bytes:
        """Return what a site signs of its keys, with the settings by which it shares masks and makes its answer."""
        return session.bound("keys", site, mask, box, common_settings(self.config))


def untold(answer: Answer, classes: int) -> Confusion:
    """Return closing scores of no images in place of an answer."""
    nothing = Counts.empty(classes)
    stated = (answer.round, answer.fingerprint, answer.classes)
    return Confusion(*stated, nothing, nothing, np.zeros((classes, classes), np.int64))


def _statement(held: Held, survivors: tuple[str, ...]) -> bytes:
    """Return what a site signs of the list of survivors: the list, and whose masks with which keys are in the vectors."""
    return held.session.bound("survivors", survivors, held.sharers, held.names, held.masks, held.boxes)


def _box(held: Held, own: X25519PrivateKey, way: tuple[str, str]) -> tuple[bytes, bytes]:
    """Return the key of the box that goes from one site to another, one of them this, and what it is bound to."""
    [other] = set(way) - {held.site}
    bound = held.session.bound("box", *way)
    return _agreed(own, _key(held, held.boxes, other), bound), bound


def _key(held: Held, keys: tuple[str, ...], name: str) -> bytes:
    return _bytes(keys[held.names.index(name)])


def _agreed(own: X25519PrivateKey, other: bytes, bound: bytes) -> bytes:
    try:
        return agreed(own, other, bound)
    except ValueError:
        raise SiteError("no-key", "sent as another site's public key what is none") from None


def _bytes(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise SiteError("not-hexadecimal", "sent a key or a signature that is not in hexadecimal digits") from None


_STAGES: dict[type[Stage], Callable[[Masking, Any], Any]] = {
    messages.Invitation: Masking.invited,
    messages.Peers: Masking.shared,
    messages.Survivors: Masking.consent,
    messages.Unmasking: Masking.unmask,
}
