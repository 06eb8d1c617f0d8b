"""The processes of a federation on this machine, by what they do, and what each uses."""

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import forked
from deployment.federation import Party

ROLES = {  # what a command line holds → what the process is
    "flwr-serverapp": "ServerApp",
    "support.superexec": "SuperExec",
    "eager_supernode": "SuperNode",
    "deployment.worker": "worker",
    "deployment.gate ": "SuperLink",
}
WARM_SECONDS = 30.0  # until then a process grows as it should


@dataclass(frozen=True)
class Process:
    """A process that works for a party: its number, and when it began, in the kernel's ticks."""

    party: str
    role: str
    pid: int
    began: int


def processes(parties: Iterable[Party]) -> list[Process]:
    """Return the processes that work for parties, without the stand-ins for forked ones."""
    rows = {pid: row for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if (row := _row(pid))}
    children = defaultdict(list)
    for pid, (parent, _, _) in rows.items():
        children[parent].append(pid)
    result = []
    for party in parties:
        top = party.process
        if top is None or top.poll() is not None:
            continue
        waiting = [(top.pid, "supervisor")]
        while waiting:
            pid, role = waiting.pop()
            if pid not in rows:
                continue
            if work := forked.forked_for(pid):
                waiting.append((work, _role(rows[pid][1])))
            else:
                result.append(Process(party.folder.parent.name, role, pid, rows[pid][2]))
            waiting += [(child, _role(rows[child][1])) for child in children[pid]]
    return result


def _role(words: str) -> str:
    return next((role for part, role in ROLES.items() if part in words), "other")


def _row(pid: int) -> tuple[int, str, int] | None:
    """Return a process's parent, command line and beginning; None if it is gone."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        if status[0] != "Z":
            return int(status[1]), words, int(status[19])
    return None


@dataclass(frozen=True)
class Use:
    """What a process uses."""

    second: float  # of the soak
    megabytes: float  # of memory that no file is behind
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """What one process used first and last, once it was warm."""

    process: Process
    seconds: float
    first: Use
    last: Use

    @classmethod
    def of(cls, process: Process, uses: Sequence[Use]) -> "Growth | None":
        """Return the growth of a process; None if it was not warm for long enough to have one."""
        warm = [use for use in uses if use.second >= uses[0].second + WARM_SECONDS]
        if len(warm) < 6:
            return None
        third = len(warm) // 3
        first, last = (_middle(part) for part in (warm[:third], warm[-third:]))
        return cls(process, last.second - first.second, first, last)


def _middle(uses: Sequence[Use]) -> Use:
    return Use(*(median(values) for values in zip(*(vars(use).values() for use in uses), strict=True)))


@dataclass
class Measures:
    """What processes used, and the size of the database, over time."""

    uses: dict[Process, list[Use]] = field(default_factory=lambda: defaultdict(list))
    counts: list[tuple[float, int]] = field(default_factory=list)  # second, number of processes
    database: list[tuple[float, float]] = field(default_factory=list)  # second, MB
    began: float = field(default_factory=time.monotonic)

    def sample(self, parties: Sequence[Party], database: Path) -> None:
        """Measure all processes of these parties."""
        now, running = time.monotonic() - self.began, processes(parties)
        self.counts.append((now, len(running)))
        self.database.append((now, megabytes(database)))
        for process in running:
            with suppress(OSError, TypeError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                memory, threads = (
                    int(re.search(rf"^{key}:\s+(\d+)", status, re.MULTILINE)[1])  # type: ignore[index]
                    for key in ("RssAnon", "Threads")
                )
                files = len(os.listdir(f"/proc/{process.pid}/fd"))
                self.uses[process].append(Use(now, memory / 1024, files, threads))

    def by_role(self) -> dict[str, list[Growth]]:
        """Return how processes grew, by role: those that lived for a while."""
        roles: dict[str, list[Growth]] = defaultdict(list)
        for process, uses in self.uses.items():
            if process.role != "other" and (growth := Growth.of(process, uses)):
                roles[process.role].append(growth)
        return dict(sorted(roles.items()))


def slope(growths: Sequence[Growth], of: str) -> float:
    """Return by how much a process of these grows in an hour, each weighed by the time it lived."""
    seconds = sum(growth.seconds for growth in growths)
    grown = sum(getattr(growth.last, of) - getattr(growth.first, of) for growth in growths)
    return 3600 * grown / seconds if seconds else 0.0


def megabytes(database: Path) -> float:
    """Return the size of an SQLite database with its log, in MB."""
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*")) / 1e6


def thirds(series: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of the first and of the last third of a series."""
    third = max(1, len(series) // 3)
    return median(v for _, v in series[:third]), median(v for _, v in series[-third:])
