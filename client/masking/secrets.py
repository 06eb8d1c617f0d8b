"""A site's secrets of a masked session, which only Flower's context of the node has between stages.

They are lost with the site's process. So a site that died has dropped out, and cannot reveal twice
what it may reveal once.

The context is a copy, fetched with each message, so two concurrent messages would both find a step
not made yet. Therefore the process also records the steps that it has made, and makes each once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from flwr.app import ConfigRecord, RecordDict

from fedtransfer.common.errors import SiteError
from fedtransfer.common.masks.messages import Session

_RECORD = "masks"
_MOST_STEPS = 2**17  # pairs of session and site: more than can be in progress at a time
NOT_BEGUN, INVITED, SHARED, ANSWERED, AGREED = range(5)  # the last stage that is done


@dataclass(frozen=True)
class SessionState:
    """The state of a session at a site, with the columns over all sites in ``messages.Peers``."""

    run: str
    round: int
    kind: str
    nonce: str
    site: str  # its name in the session
    done: int  # the last stage that is done
    key: int  # the secrets from which its two keys are derived: this one and ``box``
    box: int
    seed: int = 0  # the secret of its self-mask
    names: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    enrolled: tuple[str, ...] = ()
    sharers: tuple[str, ...] = ()  # the sites whose shares were passed on
    received: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # neighbour → (of seed, of key)
    survivors: tuple[str, ...] = ()  # the list to which the site agreed

    @property
    def session(self) -> Session:
        """The session itself."""
        return Session(self.run, self.round, self.kind, self.nonce)


class Steps:
    """The last step that this process has made, by session and site."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}
        self._lock = Lock()

    def take(self, nonce: str, site: str, step: int) -> bool:
        """Record a step; return whether it is new."""
        with self._lock:
            if self._last.get((nonce, site), NOT_BEGUN) >= step:
                return False
            self._last[nonce, site] = step
            if len(self._last) > _MOST_STEPS:
                del self._last[next(iter(self._last))]
            return True


@dataclass(frozen=True)
class Safe:
    """The store of a node's session; there is one session at a time."""

    state: RecordDict  # in Flower's context of the node
    steps: Steps  # that the process has made

    def keep(self, session: SessionState) -> None:
        """Store a session, in place of any other."""
        self.state[_RECORD] = ConfigRecord({"held": json.dumps(vars(session)).encode()})

    def step(self, nonce: str, site: str, done: int) -> SessionState:
        """Return the site's session, for the step after stage ``done``.

        Raises:
            SiteError: the site is in another session or at another stage, or has made that step.
        """
        record = self.state.get(_RECORD)
        if not isinstance(record, ConfigRecord):
            raise SiteError(
                "no-session",
                "this site has no masks of this session: it was restarted since, or has unmasked the sum",
            )
        values = json.loads(bytes(record["held"]))  # type: ignore[arg-type]
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        session = SessionState(**{**values, **tuples})
        if (session.nonce, session.site) != (nonce, site):
            raise SiteError(
                "other-session", "this site is now in another session of masks, or under another name"
            )
        if session.done != done or not self.steps.take(nonce, site, done + 1):
            raise SiteError(
                "out-of-turn",
                f"asked for the step after stage {done} of its masks, but this site has finished stage "
                f"{session.done} or a later one; it makes each step once",
            )
        return session

    def forget(self) -> None:
        """Drop the secrets."""
        self.state.pop(_RECORD, None)
