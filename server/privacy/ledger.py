"""What a run has spent: a line in ``run-privacy.jsonl`` per round, written before anything leaves.

No line is ever taken back. A round that is repeated after a kill is charged again, since what it
sent may have been seen.
"""

import math
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.guarantee import Guarantee, guarantee
from fedtransfer.common.support.files import append_line, read_lines, rename_ledger

FILE = "run-privacy.jsonl"
EARLIER_FILE = "privacy.jsonl"


class RunLedger:
    """The ledger of one run.

    Attributes:
        promise: the run's guarantee.
        charged: the number of rounds that are paid for, those included that were never finished.
    """

    def __init__(self, folder: Path, config: RunConfig, promise: Guarantee) -> None:
        """Open the ledger of a run folder, or begin one; a ledger of an earlier version is renamed.

        Raises:
            UserError: its releases are of another kind, it is unreadable, or there are two ledgers.
        """
        rename_ledger(folder / EARLIER_FILE, folder / FILE)
        self.promise, self._path, self._config = promise, folder / FILE, config
        self._affordable = promise.affordable
        self.charged = self._read()

    @classmethod
    def from_config(cls, folder: Path, config: RunConfig) -> "RunLedger | None":
        """Open the ledger of a run; None if the run promises nothing.

        Raises:
            UserError: see ``__init__``; or the run's epsilon is not enough for one round.
        """
        promise = guarantee(config)
        return cls(folder, config, promise) if promise else None

    @property
    def affords(self) -> bool:
        """Whether the promise allows one more round.

        Sites that keep their own ledger allow the planned number of rounds and no more. Without
        such sites, a run may go on for as long as ε is within its limit.
        """
        following = self.charged + 1
        if following <= self._affordable:
            return True
        counted = self._config.dp == "image" or self._config.noise == "shared"
        return not counted and self.promise.epsilon(following) <= self.promise.epsilon_limit

    @property
    def limit(self) -> str:
        """What the run must not exceed, in words."""
        limit = self.promise.epsilon_limit
        return f"epsilon {limit:g}" if math.isfinite(limit) else f"the {self.promise.rounds} rounds promised"

    @property
    def epsilon(self) -> float | None:
        """An upper bound on the ε spent so far, cheap enough for every round; None if infinite."""
        if not self.charged:
            return 0.0
        return _finite(min(self.promise.epsilon_at_most(self.charged), self.promise.epsilon_limit))

    def charge(self, number: int) -> None:
        """Pay for round ``number``; on return that is on disk.

        Raises:
            UserError: the round would exceed the promise, or the ledger cannot be written; then
                nothing may leave.
        """
        if not self.affords:
            charged = (
                f"{self.charged} are charged in {self._path}, including rounds in which a run was stopped"
            )
            remedy = "Stop here, or start a new run with more noise"
            raise UserError(f"round {number}: one more round would exceed {self.limit}; {charged}. {remedy}")
        self.charged += 1
        row = {"round": number, **self._release, "epsilon": self.epsilon, "delta": self.promise.delta}
        try:
            append_line(self._path, row)
        except OSError as error:
            problem = f"{self._path}: cannot write the privacy ledger: {error.strerror}"
            remedy = "Make room or give access, and resume the run"
            raise UserError(f"{problem}; the run stops before this round spends anything. {remedy}") from None

    def summary(self, *, stopped: bool) -> dict[str, Any]:
        """Return ``summary.json``'s part about privacy; ``stopped``: the promise ended the run."""
        promise = self.promise
        return {
            "epsilon": _finite(promise.epsilon(self.charged)),
            "delta": promise.delta,
            "unit": promise.unit,
            "neighbours": promise.neighbours,
            "sampling": promise.sampling,
            "noise_multiplier": promise.noise_multiplier,
            "clip": promise.clip,
            "releases": self.charged * promise.releases,
            "rounds_charged": self.charged,
            "budget": _finite(promise.epsilon_limit),
            "stopped_by_budget": stopped,
            "trust": _trust(self._config),
        }

    @property
    def _release(self) -> dict[str, Any]:
        release = self.promise.release
        return {
            "releases": self.promise.releases, "rate": release.rate,
            "noise_multiplier": release.noise_multiplier, "discrete": release.discrete,
        }  # fmt: skip

    def _read(self) -> int:
        """Count the lines, torn ones included, since what such a line pays for may have left."""
        charged, ours = 0, self._release
        try:
            for line in read_lines(self._path):
                charged += line.content != b"\n"
                row = line.row or {}
                release = {key: row[key] for key in ours if key in row}
                if len(release) == len(ours) and release != ours:
                    both = f"earlier rounds were charged as {release}, this run would charge {ours}"
                    remedy = "Resume with the settings that the run began with, or start a new run"
                    raise UserError(
                        f"{self._path}: {both}; the promise does not cover both together. {remedy}"
                    )
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot read the privacy ledger: {error.strerror}; give access"
            ) from None
        return charged


def _finite(number: float) -> float | None:
    """Return a number as JSON can have it: None for an infinite one."""
    return number if math.isfinite(number) else None


def _trust(config: RunConfig) -> str:
    """Say who must be trusted for what is promised to hold."""
    if config.noise == "shared":
        sites = f"at least {config.honest_sites} sites of each total, to add their share of the noise"
        return f"{sites}; the coordinator sees totals only, through the masks"
    if config.dp == "site":
        role = "it sees each site's update, adds the noise, and keeps secret who is in a round"
        return f"the coordinator: {role}; the guarantee is against those who see the heads"
    return "the image's own site alone: it adds all of the noise before anything leaves it"
