"""What came of a soak: its failures, and the tables of the documentation."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from deployment.federation import arrays
from deployment.soak_faults import KINDS
from deployment.soak_processes import Measures, slope, thirds
from deployment.soak_replay import replay

from fedtransfer.server.callbacks.tables import read_history, read_left_out

HOSTILE = ("mallory", "trudy")
GROWTH = {"megabytes": 32.0, "descriptors": 16, "threads": 16}  # the most in the life of a process


@dataclass
class Outcome:
    """What a soak was, and what became of it."""

    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    rounds: int = 0
    restarts: Counter[str] = field(default_factory=Counter)  # supervisors, by party
    measures: Measures = field(default_factory=Measures)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)  # hostile site → why it was left out
    failures: list[str] = field(default_factory=list)


def check(folder: Path, planned: int, data: Mapping[str, Path], again: Path, outcome: Outcome) -> None:
    """Compare a run's heads with what follows from what it admitted; note who was left out."""
    rounds = [
        int(row["round"]) for row in read_history(folder) if (row["phase"], row["status"]) == ("train", "ok")
    ]
    outcome.rounds += len(rounds)
    if rounds != list(range(1, planned + 1)):
        outcome.failures.append(f"{folder.name} has the rounds {rounds}")
    left_out = read_left_out(folder)
    with (folder / "sites.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["site"] in HOSTILE and row["status"] != "ok" and not row["status"].startswith("set aside"):
                outcome.reasons.setdefault(row["site"], Counter())[row["status"]] += 1
    outcome.failures += [f"{folder.name} does not name {site}" for site in HOSTILE if site not in left_out]
    if not (folder / "last-head.npz").exists():
        return
    replay(folder, data, again)
    for head in ("head.npz", "last-head.npz"):
        pairs = zip(arrays(folder / head), arrays(again / head), strict=True)
        if any(one.tobytes() != other.tobytes() for one, other in pairs):
            outcome.failures.append(f"{folder.name}: {head} does not follow from what was admitted")


def growth(measures: Measures) -> list[str]:
    """Say what grew: memory, descriptors or threads of a process, their number, or the database."""
    grown = [
        f"{one.process.role} of {one.process.party}: {of} from {getattr(one.first, of):.0f} to "
        f"{getattr(one.last, of):.0f} in {one.seconds:.0f} s"
        for growths in measures.by_role().values()
        for one in growths
        for of, limit in GROWTH.items()
        if getattr(one.last, of) - getattr(one.first, of) > limit
    ]
    first, last = thirds(measures.counts)
    grown += [f"processes: from {first:.0f} to {last:.0f}"] if last > first + 4 else []
    first, last = thirds(measures.database)
    return grown + ([f"database: from {first:.1f} to {last:.1f} MB"] if last > 1.5 * first + 8 else [])


def tables(outcome: Outcome) -> dict[str, list[dict[str, str]]]:
    """Return the tables of the documentation: name → rows."""
    measures, rows = outcome.measures, []
    for role, growths in measures.by_role().items():
        row = {"process": role, "lives": str(len(growths))}
        for of in GROWTH:
            first, last = (
                median(getattr(use, of) for use in uses)
                for uses in zip(*((g.first, g.last) for g in growths), strict=True)
            )
            row |= {f"{of} first": f"{first:.1f}", f"{of} last": f"{last:.1f}"}
            row |= {f"{of} an hour": f"{slope(growths, of):+.1f}"}
        rows.append(row)
    (first, last), (fewer, more) = thirds(measures.database), thirds(measures.counts)
    facts = {
        "minutes": f"{outcome.seconds / 60:.1f}",
        "runs": str(len(outcome.runs)), "rounds": str(outcome.rounds),
        "faults": str(outcome.faults.total()), "supervisors started again": str(outcome.restarts.total()),
        "database first, MB": f"{first:.1f}", "database last, MB": f"{last:.1f}",
        "processes first": f"{fewer:.0f}", "processes last": f"{more:.0f}",
    }  # fmt: skip
    faults = {**dict.fromkeys(KINDS, 0), **outcome.faults}
    return {
        "soak": [{"fact": fact, "value": value} for fact, value in facts.items()],
        "soak-faults": [{"fault": name, "times": str(times)} for name, times in faults.items()],
        "soak-processes": rows,
    }
