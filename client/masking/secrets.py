"""What a site keeps of a masked session between its stages: in Flower's context of the node, and nowhere else.

It is gone with the site's process. So a site that died has dropped out; it cannot tell twice what it may tell once.

That context is a copy, fetched with each message, so two messages at once would both find a step not made yet. Hence the
process also knows which steps it has made, and makes each once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from flwr.app import ConfigRecord, RecordDict

from fedtransfer.common.errors import SiteError
from fedtransfer.common.masks.session import Session

_RECORD = "masks"
_REMEMBERED = 2**17  # sites of sessions: more than can be under way at a time
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
        names, masks, boxes, enrolled: of all sites of the session, as in ``fedtransfer.common.masks.messages.Peers``.
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


class Steps:
    """The steps that this process has made: by session and site, the last one."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}
        self._lock = Lock()

    def take(self, nonce: str, site: str, step: int) -> bool:
        """Return whether a step has not been made yet; from now on it has."""
        with self._lock:
            if self._last.get((nonce, site), NOT_BEGUN) >= step:
                return False
            self._last[nonce, site] = step
            if len(self._last) > _REMEMBERED:
                del self._last[next(iter(self._last))]
            return True


@dataclass(frozen=True)
class Safe:
    """Where a node keeps the session that it is in; there is one at a time.

    Attributes:
        state: of Flower's context of the node.
        steps: that the process has made.
    """

    state: RecordDict
    steps: Steps

    def keep(self, held: Held) -> None:
        """Keep a session in place of whatever was kept."""
        self.state[_RECORD] = ConfigRecord({"held": json.dumps(vars(held)).encode()})

    def step(self, nonce: str, site: str, done: int) -> Held:
        """Return the session that the site is in, to make the step after ``done``.

        Raises:
            SiteError: it is in another one, or at another stage of this one, or has made that step.
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
        if held.done != done or not self.steps.take(nonce, site, done + 1):
            raise SiteError(
                "out-of-turn",
                f"asked for a step after stage {done} of its masks, but this site is after stage {held.done} or beyond; it makes "
                "each step once",
            )
        return held

    def forget(self) -> None:
        """Drop the secrets."""
        self.state.pop(_RECORD, None)
