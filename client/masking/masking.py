"""A site's part of secure aggregation: what it checks in each stage, and what it reveals.

Bonawitz et al. 2017 (doi 10.1145/3133956.3133982), Figure 4, with the consistency check on
survivors. A site answers each stage once. For each neighbour it reveals exactly one share to the
server: of its self-mask seed if the neighbour is on the list of survivors, otherwise of its private
key. A list is valid only if more than half of all sites sign it. Each signs one list per session,
so at most one is valid.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedtransfer.client.masking.secrets import AGREED, ANSWERED, INVITED, SHARED, Safe, SessionState
from fedtransfer.client.masking.shared_noise import with_share
from fedtransfer.client.node import Node
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.masks import messages, shamir
from fedtransfer.common.masks.graph import Graph, graph, least_sites
from fedtransfer.common.masks.messages import Session, common_part, common_settings
from fedtransfer.common.masks.secrecy import SEALED, agreed, agreement_key, derived, pad, public, seal, unseal
from fedtransfer.common.masks.vector import encode, places
from fedtransfer.common.privacy.gaussian import secret_generator
from fedtransfer.common.support.text import counted
from fedtransfer.common.wire.protocol import FINISH, Answer, Confusion, Request


@dataclass(frozen=True)
class Masking:
    """Secure aggregation at a node."""

    safe: Safe  # the session between its stages
    node: Node
    config: RunConfig  # as it is at this site

    def answer(self, message: messages.Stage) -> Any:
        """Answer a message that belongs to secure aggregation only.

        Raises:
            SiteError: the site must not answer; the text says why.
        """
        if not self.config.masks:
            raise SiteError("not-of-this-run", "asked for masks, which the run's settings do not have")
        return _STAGES[type(message)](self, message)

    def make_keys(self, message: messages.Invitation) -> messages.PublicKeys:
        """Make two key pairs for a session; return the public keys."""
        place = (message.run, message.round, message.kind, message.nonce, message.site)
        session = SessionState(*place, INVITED, key=shamir.draw(), box=shamir.draw())
        self.safe.keep(session)
        mask, box = (public(agreement_key(secret)).hex() for secret in (session.key, session.box))
        statement = self._key_statement(message.session, message.site, mask, box)
        return messages.PublicKeys(mask, box, self._signature(message.site, statement))

    def share_secrets(self, message: messages.Peers) -> messages.Boxes:
        """Check the other sites' keys, and share this site's secrets with its neighbours."""
        session = self.safe.step(message.nonce, message.site, INVITED)
        self._check_peers(message, session)
        session = replace(
            session, done=SHARED, seed=shamir.draw(), names=message.names, masks=message.masks,
            boxes=message.boxes, enrolled=message.enrolled,
        )  # fmt: skip
        numbers, around = self._graph(session)
        key = agreement_key(session.box)
        points = [session.names.index(name) + 1 for name in around]
        shares = [shamir.split(secret, numbers.threshold, points) for secret in (session.seed, session.key)]
        sealed = [
            seal(*_box_key(session, key, (session.site, name)), _joined(pair))
            for name, *pair in zip(around, *shares, strict=True)
        ]
        self.safe.keep(session)
        return messages.Boxes(np.frombuffer(b"".join(sealed), np.uint8).reshape(-1, SEALED))

    def mask(self, request: Request, kind: str, compute: Callable[[], Answer]) -> Answer:
        """Answer a request under masks: only masked numbers of ``compute``'s answer leave the site.

        Without masks a site only takes the result of a run, and returns no scores.
        """
        if not request.nonce:
            if kind != FINISH:
                raise SiteError(
                    "no-masks", "asked for an answer without masks, which the run's settings exclude"
                )
            answer = compute()
            return empty_confusion(answer.round, answer.fingerprint, answer.classes, len(request.classes))
        session = self.safe.step(request.nonce, request.site, SHARED)
        if (session.round, session.kind) != (request.round, kind):
            raise SiteError(
                "other-session", "asked for an answer under the masks of another round, or of another kind"
            )
        session = self._open_boxes(session, request)
        self.safe.keep(session)  # first: two answers under the same masks would reveal their difference
        answer = compute()
        numbers, around = self._graph(session)
        rng, bits = secret_generator(), places(request)
        vector = encode(answer, numbers.sites, rng, bits, with_share(answer, request, self.config, rng))
        seed = session.seed.to_bytes(shamir.BYTES, "big")
        vector += pad(derived(seed, session.session.context("pad", session.site)), len(vector))
        key, digest = agreement_key(session.key), common_part(request, self.config)
        for name in around:
            if name in session.received:
                context = session.session.context("mask", digest, *sorted((session.site, name)))
                mask = pad(_agree(key, _public_key(session, session.masks, name), context), len(vector))
                vector += mask if session.site < name else -mask
        return messages.Masked(answer.round, answer.fingerprint, answer.classes, vector)

    def consent(self, message: messages.Survivors) -> messages.Consent:
        """Agree to unmask the sum over these sites, if they are enough and include this one."""
        session = self.safe.step(message.nonce, message.site, ANSWERED)
        numbers, _ = self._graph(session)
        self._check_list(message.names, session, numbers.least)
        self.safe.keep(replace(session, done=AGREED, survivors=message.names))
        return messages.Consent(self._signature(session.site, _survivor_statement(session, message.names)))

    def unmask(self, message: messages.Unmasking) -> messages.Shares:
        """Reveal one share per neighbour, for the sum over the survivors, and end the session."""
        session = self.safe.step(message.nonce, message.site, AGREED)
        numbers, around = self._graph(session)
        if message.names != session.survivors:
            raise SiteError(
                "other-survivors", "asked to unmask the sum over other sites than this site agreed to"
            )
        self._check_signers(message, session, numbers.quorum)
        self.safe.forget()
        senders = [name for name in around if name in session.received]
        shares = _joined(session.received[name][0 if name in message.names else 1] for name in senders)
        return messages.Shares(np.frombuffer(shares, np.uint8).reshape(-1, shamir.BYTES))

    def _check_peers(self, message: messages.Peers, session: SessionState) -> None:
        names = message.names
        least = least_sites(len(names), self.config)
        columns = (message.masks, message.boxes, message.signatures, message.enrolled)
        if list(names) != sorted(set(names)) or any(len(column) != len(names) for column in columns):
            raise SiteError("wrong-peers", "sent a list of sites that is not sorted, or not complete")
        if len(names) < least:
            raise SiteError(
                "too-few-peers",
                f"sent keys of {counted(len(names), 'site')}; "
                f"this site shares masks with at least {least - 1} others",
            )
        mask, box = (public(agreement_key(secret)).hex() for secret in (session.key, session.box))
        position = names.index(session.site) if session.site in names else None
        if position is None or (mask, box) != (message.masks[position], message.boxes[position]):
            raise SiteError(
                "not-among-peers", "sent a list of sites without this site, or with other keys for it"
            )
        enrolled = dict(zip(names, message.enrolled, strict=True))
        if identity := self.node.identity(session.site, enrolled):
            for name, mask, box, signature in zip(
                names, message.masks, message.boxes, message.signatures, strict=True
            ):
                if name != session.site:
                    statement = self._key_statement(session.session, name, mask, box)
                    identity.verify(name, statement, _bytes(signature))

    def _open_boxes(self, session: SessionState, request: Request) -> SessionState:
        """Return the session with the shares in the boxes for this site."""
        numbers, around = self._graph(session)
        sharers = request.sharers
        self._check_list(sharers, replace(session, sharers=session.names), numbers.least)
        senders = [name for name in around if name in sharers]
        sealed = [box.tobytes() for array in request.boxes for box in array]
        if len(senders) < numbers.threshold or len(sealed) != len(senders):
            raise SiteError(
                "too-few-boxes",
                f"sent {counted(len(sealed), 'box', 'boxes')} of {counted(len(senders), 'neighbour')}; this "
                f"site shares masks with at least {numbers.threshold}, and needs a box of each",
            )
        received, box_key = {}, agreement_key(session.box)
        for name, box in zip(senders, sealed, strict=True):
            key, context = _box_key(session, box_key, (name, session.site))
            try:
                pair = unseal(key, context, box)
            except ValueError:
                text = "sent a box that its sender did not seal for this site in this session"
                raise SiteError("broken-box", text) from None
            seed, share = pair[: shamir.BYTES], pair[shamir.BYTES :]
            received[name] = (int.from_bytes(seed, "big"), int.from_bytes(share, "big"))
        return replace(session, done=ANSWERED, sharers=sharers, received=received)

    def _check_list(self, names: tuple[str, ...], session: SessionState, least: int) -> None:
        if session.site not in names:
            raise SiteError("not-in-total", "sent a list of sites for a masked sum that leaves out this site")
        if list(names) != sorted(set(names)) or not set(names) <= set(session.sharers):
            raise SiteError(
                "wrong-list", "sent a list of sites that is not sorted, or names one without masks"
            )
        if len(names) < least:
            raise SiteError(
                "too-few-sites",
                f"asked to join a masked sum over {counted(len(names), 'site')}; "
                f"this site requires at least {least}",
            )

    def _check_signers(self, message: messages.Unmasking, session: SessionState, quorum: int) -> None:
        signers = message.signers
        in_list = list(signers) == sorted(set(signers)) and set(signers) <= set(session.survivors)
        if not in_list or len(signers) < quorum or len(message.signatures) != len(signers):
            raise SiteError(
                "no-quorum",
                f"{counted(len(signers), 'site')} signed the list of sites in the sum, {quorum} must sign it",
            )
        enrolled = dict(zip(session.names, session.enrolled, strict=True))
        if identity := self.node.identity(session.site, enrolled):
            for name, signature in zip(signers, message.signatures, strict=True):
                if name != session.site:
                    identity.verify(name, _survivor_statement(session, session.survivors), _bytes(signature))

    def _graph(self, session: SessionState) -> tuple[Graph, tuple[str, ...]]:
        """Return the session's graph, and the site's neighbours in it."""
        numbers = graph(len(session.names), self.config)
        ring = numbers.ring(session.names, session.session.order(session.masks, session.boxes))
        return numbers, ring.around(session.site)

    def _signature(self, site: str, statement: bytes) -> str:
        identity = self.node.identity(site, {})
        return identity.sign(statement).hex() if identity else ""

    def _key_statement(self, session: Session, site: str, mask: str, box: str) -> bytes:
        """Return what a site signs with its keys: these, and the settings common to all sites."""
        return session.context("keys", site, mask, box, common_settings(self.config))


def empty_confusion(round: int, fingerprint: str, classes: str, number: int) -> Confusion:
    """Return closing scores over no images, of ``number`` classes, for a site that reveals none."""
    empty = Counts.empty(number)
    return Confusion(round, fingerprint, classes, empty, empty, np.zeros((number, number), np.int64))


def _survivor_statement(session: SessionState, survivors: tuple[str, ...]) -> bytes:
    """Return what a site signs with a list of survivors: the list, the sharers, and all keys."""
    return session.session.context(
        "survivors", survivors, session.sharers, session.names, session.masks, session.boxes
    )


def _box_key(session: SessionState, key: X25519PrivateKey, route: tuple[str, str]) -> tuple[bytes, bytes]:
    """Return the box's key from one site to another, one of them this site, and its context."""
    [peer] = set(route) - {session.site}
    context = session.session.context("box", *route)
    return _agree(key, _public_key(session, session.boxes, peer), context), context


def _public_key(session: SessionState, keys: tuple[str, ...], name: str) -> bytes:
    return _bytes(keys[session.names.index(name)])


def _agree(key: X25519PrivateKey, public_key: bytes, context: bytes) -> bytes:
    try:
        return agreed(key, public_key, context)
    except ValueError:
        raise SiteError("no-key", "sent an invalid public key for another site") from None


def _joined(shares: Iterable[int]) -> bytes:
    return b"".join(share.to_bytes(shamir.BYTES, "big") for share in shares)


def _bytes(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise SiteError(
            "not-hexadecimal", "sent a key or a signature that is not in hexadecimal digits"
        ) from None


_STAGES: dict[type[messages.Stage], Callable[[Masking, Any], Any]] = {
    messages.Invitation: Masking.make_keys,
    messages.Peers: Masking.share_secrets,
    messages.Survivors: Masking.consent,
    messages.Unmasking: Masking.unmask,
}
