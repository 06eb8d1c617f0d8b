"""What a site keeps of a masked session between its stages: in Flower's context of the node, and nowhere else.

It is gone with the site's process. So a site that died has dropped out; it cannot tell twice what it may tell once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, RecordDict

from common.errors import SiteError
from common.masks.session import Session

_RECORD = "masks"
NOT_BEGUN, INVITED, SHARED, ANSWERED, AGREED = range(5)  # stages that are done


@dataclass(frozen=True)
class Held:
    """A session at a site.

    Attributes:
        run, round, kind, nonce: which.
        site: the site's name in it.
        done: the last stage that is done.
        key, box: the secrets that its two keys are derived from.
        seed: the secret of its own pad.
        names, masks, boxes, enrolled: of all sites of the session, as in ``common.masks.messages.Peers``.
        sharers: whose shares came.
        received: neighbour → its shares, of its seed and of its key.
        survivors: the list that the site agreed to.
    """

    run: str
    round: int
    kind: str
    nonce: str
    site: str
    done: int
    key: int
    box: int
    seed: int = 0
    names: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    enrolled: tuple[str, ...] = ()
    sharers: tuple[str, ...] = ()
    received: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    survivors: tuple[str, ...] = ()

    @property
    def session(self) -> Session:
        """The session that it belongs to."""
        return Session(self.run, self.round, self.kind, self.nonce)


@dataclass(frozen=True)
class Safe:
    """Where a node keeps the session that it is in; there is one at a time.

    Attributes:
        state: of Flower's context of the node.
    """

    state: RecordDict

    def keep(self, held: Held) -> None:
        """Keep a session in place of whatever was kept."""
        self.state[_RECORD] = ConfigRecord({"held": json.dumps(vars(held)).encode()})

    def held(self, nonce: str, site: str, done: int) -> Held:
        """Return the session that the site is in.

        Raises:
            SiteError: it is in another one, or at another stage of this one than after ``done``.
        """
        record = self.state.get(_RECORD)
        if not isinstance(record, ConfigRecord):
            raise SiteError(
                "no-session", "this site has no masks of this session: it was started anew since, or unmasked the sum"
            )
        said = json.loads(bytes(record["held"]))  # type: ignore[arg-type]
        listed = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
        held = Held(**{**said, **listed})
        if (held.nonce, held.site) != (nonce, site):
            raise SiteError("other-session", "this site is in another session of masks by now, or under another name")
        if held.done != done:
            raise SiteError(
                "out-of-turn",
                f"asked for a step after stage {done} of its masks, but this site is after stage {held.done}; it makes each once",
            )
        return held

    def forget(self) -> None:
        """Drop the secrets."""
        self.state.pop(_RECORD, None)
