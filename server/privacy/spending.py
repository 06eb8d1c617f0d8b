"""What a run has spent of its budget: a line in ``privacy.jsonl`` for each round, on disk before anything it pays for leaves.

No line is ever taken back: a round that is repeated after a kill is charged again, since what it sent may have been seen.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.guarantee import Guarantee, guarantee

FILE = "privacy.jsonl"
_RELEASE = ("releases", "rate", "noise_multiplier", "discrete")


class Spending:
    """The ledger of one run.

    Attributes:
        promised: what the run promises.
        charged: rounds that are paid for, those included that were never finished.
    """

    def __init__(self, folder: Path, config: RunConfig, promised: Guarantee) -> None:
        """Take up the ledger of a run folder, or begin one.

        Raises:
            UserError: it is of releases of another kind.
        """
        self.promised, self._path, self._config = promised, folder / FILE, config
        self._affordable = promised.affordable
        self.charged = self._read()

    @classmethod
    def of(cls, folder: Path, config: RunConfig) -> "Spending | None":
        """Return the ledger of a run; None where it promises nothing."""
        promised = guarantee(config)
        return cls(folder, config, promised) if promised else None

    @property
    def affords(self) -> bool:
        """Whether one more round is within what is promised; sites that count for themselves know no more than its rounds."""
        more = self.charged + 1
        counted = self._config.dp == "image" or self._config.noise == "shared"
        return more <= self._affordable or (not counted and self.promised.epsilon(more) <= self.promised.budget)

    @property
    def limit(self) -> str:
        """What must not be spent, in words."""
        bounded = math.isfinite(self.promised.budget)
        return f"epsilon {self.promised.budget:g}" if bounded else f"the {self.promised.rounds} rounds promised"

    @property
    def epsilon(self) -> float | None:
        """What is spent: an upper bound, which is quick to know in every round; None where there is none."""
        return _finite(min(self.promised.epsilon_at_most(self.charged), self.promised.budget) if self.charged else 0.0)

    def charge(self, number: int) -> None:
        """Pay for a round; on return that is on disk.

        Raises:
            UserError: it would spend more than the budget, or cannot be written; then nothing may leave.
        """
        if not self.affords:
            raise UserError(
                f"round {number}: one more would spend more than {self.limit}; {self.charged} are "
                f"charged in {self._path}, those included that a run was stopped in"
            )
        self.charged += 1
        line = {"round": number, **self._release, "epsilon": self.epsilon, "delta": self.promised.delta}
        try:
            with self._path.open("ab+") as file:
                cut_off = file.tell() and self._path.read_bytes()[-1:] != b"\n"  # by a kill
                file.write(b"\n" * bool(cut_off) + json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written: {error.strerror}; nothing may be spent without"
            ) from None

    def summary(self, *, stopped: bool) -> dict[str, Any]:
        """Return what ``summary.json`` says; ``stopped``: the budget ended the run before its last round."""
        promised = self.promised
        return {
            "epsilon": _finite(promised.epsilon(self.charged)),
            "delta": promised.delta,
            "unit": promised.unit,
            "neighbours": promised.neighbours,
            "sampling": promised.sampling,
            "noise_multiplier": promised.noise_multiplier,
            "clip": promised.clip,
            "releases": self.charged * promised.releases,
            "rounds_charged": self.charged,
            "budget": _finite(promised.budget),
            "stopped_by_budget": stopped,
            "trust": _trust(self._config),
        }

    @property
    def _release(self) -> dict[str, Any]:
        release = self.promised.release
        return dict(
            zip(
                _RELEASE,
                (self.promised.releases, release.rate, release.noise_multiplier, release.discrete),
                strict=True,
            )
        )

    def _read(self) -> int:
        """Count the lines; one that a kill cut off counts too, since what it pays for may have left."""
        lines = [line for line in self._path.read_bytes().split(b"\n") if line] if self._path.exists() else []
        for line in lines:
            try:
                told = json.loads(line)
                was = {key: told[key] for key in _RELEASE}
            except (ValueError, KeyError, TypeError):
                continue
            if was != self._release:
                raise UserError(
                    f"{self._path}: rounds were charged as {was}, and would be as {self._release} now; what they spend together "
                    "is not what this run promises. Resume with the settings that it began with, or start anew"
                )
        return len(lines)


def _finite(number: float) -> float | None:
    """Return a number as JSON can have it: None for an infinite one."""
    return number if math.isfinite(number) else None


def _trust(config: RunConfig) -> str:
    """Say who must be trusted for what is promised to hold."""
    if config.noise == "shared":
        return (
            f"at least {config.honest_sites} sites of each total, to add their share of the noise; the coordinator sees totals "
            "only, through the masks"
        )
    if config.dp == "site":
        return (
            "the coordinator: it sees each site's update, adds the noise, and keeps secret who is in a round; the "
            "guarantee is against those who see the heads"
        )
    return "the image's own site alone: it adds all of the noise before anything leaves it"
