"""A federation under faults drawn at random, with hostile sites, for as long as is wanted.

    python tests/deployment/soak.py --minutes 60 --seed 1

Four honest sites, two hostile ones, a coordinator behind nginx, all as processes. Every few seconds
one is killed or stopped, or a disk, a cable, a certificate, nginx or the database fails. A process
of ``server start`` or ``client start`` is started again, as systemd would; nothing else is. Runs
follow each other until the time is over. Each begins and the last one ends in peace.

Afterwards the heads are computed from what was admitted, in process, and must be the same bits.
"""

import argparse
import csv
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deployment.federation import CoordinatorParty, SiteParty, start_all, stopping
from deployment.network import NGINX, Relay
from deployment.soak_faults import FULL, KINDS, Missed, World, disk, why_not
from deployment.soak_hostile import attack
from deployment.soak_processes import Measures
from deployment.soak_report import HOSTILE, Outcome, check, growth, tables
from feature_files import vectors, write
from waiting import patient

from fedtransfer.server.deployment.coordinator import Coordinator

HONEST = ("north", "south", "east", "west")
WIDTH, IMAGES = 32, 60
PAUSE_SECONDS = (3.0, 9.0)  # between two faults: shortest and longest
RESTART_SECONDS = 5.0  # as RestartSec= of the coordinator's unit
SAMPLE_SECONDS = 5.0
ROUNDS = 40  # of each run
ROUNDS_AN_HOUR = 200  # at least
PEACE_SECONDS = 300.0  # within which a run ends once there are no more faults
SETTINGS = {
    "backbone": f"soak-features-{WIDTH}@1", "classes": "declared", "class-names": "a,b,c",
    "min-sites": "2", "round-timeout": f"{patient(10):g}",
    "join-timeout": f"{patient(60):g}",
}  # fmt: skip


class Soak:
    """Runs, faults and measurements of a federation."""

    def __init__(self, world: World, outcome: Outcome, rounds: int, log: Path) -> None:
        self.world, self.outcome, self._log = world, outcome, log.open("a", encoding="utf-8")
        self._rng, self._settings = random.Random(outcome.seed), {**SETTINGS, "rounds": str(rounds)}
        self._began = time.monotonic()
        self._active: dict[str, tuple[float, ExitStack]] = {}  # kind → its end, in seconds of the soak
        self._ended: dict[str, float] = {}  # party → when its supervisor ended
        self._next_fault = self._next_sample = 0.0
        self._requests, self._noted = 0, set[str]()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def say(self, line: str) -> None:
        """Write a line to the log, with the time of day and the second of the soak."""
        text = f"{time.strftime('%H:%M:%S')} {self.now:7.1f} s  {line}"
        print(text, flush=True)
        self._log.write(text + "\n")
        self._log.flush()

    def last(self, seconds: float) -> None:
        """Let runs follow each other under faults for some time, and the last one end in peace."""
        while self.now < seconds or self.is_open():
            if self.now > seconds + patient(PEACE_SECONDS):
                self._fail(f"no end in {PEACE_SECONDS:g} s of peace: {self._current()}")
                return
            if self.now < seconds and not self.is_open():
                self._begin_run()
            self.end_faults(at_once=self.now >= seconds or not self._is_under_way())
            self._restart()
            if self._next_fault <= self.now < seconds and self._is_under_way():
                self._begin_fault()
                self._next_fault = self.now + patient(self._rng.uniform(*PAUSE_SECONDS))
            if self.now >= self._next_sample:
                self.outcome.measures.sample(self.world.parties, self._database)
                self._next_sample = self.now + SAMPLE_SECONDS
            time.sleep(0.1)
        self._end_run()
        self.outcome.seconds = self.now

    @property
    def _database(self) -> Path:
        return self.world.coordinator.folder / "state" / "superlink.db"

    def _current(self) -> dict[str, Any]:
        return self.world.coordinator.current()

    def is_open(self) -> bool:
        """Whether the current run goes on."""
        return bool(self.outcome.runs) and self._current()["status"] in ("wanted", "running")

    def _is_under_way(self) -> bool:
        """Whether a round is done: until then whoever asked for the run sees to it."""
        name = self.outcome.runs[-1] if self.outcome.runs else ""
        return any((self.world.coordinator.folder / "runs" / name / "checkpoints").glob("round-*.npz"))

    def _begin_run(self) -> None:
        self._end_run()
        self._requests += 1
        name = f"run-{self._requests}"
        options = [word for key, value in self._settings.items() for word in (f"--{key}", value)]
        done = self.world.coordinator.command(
            "run", "--detach", "--name", name, "--no-models", *options, check=False
        )
        if done.returncode:  # such as on a full disk: whoever asks reads this, and asks again
            self.say(f"{name} was not taken: {(done.stderr.strip() or done.stdout.strip())[-300:]}")
        else:
            self.outcome.runs.append(name)
            self.say(f"{name} is wanted")

    def _end_run(self) -> None:
        """Note what became of the current run, once."""
        if self.outcome.runs and (name := self.outcome.runs[-1]) not in self._noted:
            self._noted.add(name)
            run = self._current()
            self.say(f"{name}: {run['status']} {run['why']}")
            if run["status"] != "finished":
                self._fail(f"{name} {run['status']}: {run['why']}")

    def _fail(self, why: str) -> None:
        self.say(f"FAILURE: {why}")
        self.outcome.failures.append(why)

    def _begin_fault(self) -> None:
        kinds = [
            name
            for name, kind in KINDS.items()
            if name not in self._active and not kind.not_during & set(self._active) and name not in why_not()
        ]
        name = self._rng.choice(kinds)
        seconds, stack = self._rng.uniform(*KINDS[name].seconds), ExitStack()
        try:
            victim = stack.enter_context(KINDS[name].fault(self.world, self._rng))
        except Missed as missed:
            self.say(f"{name}: missed: {missed}")
            return
        self.outcome.faults[name] += 1
        self._active[name] = self.now + seconds, stack
        self.say(f"{name}: {victim}" + (f", for {seconds:.0f} s" if seconds else ""))

    def end_faults(self, *, at_once: bool = False) -> None:
        for name, (end, stack) in list(self._active.items()):
            if at_once or self.now >= end:
                del self._active[name]
                stack.close()
                if KINDS[name].seconds[1]:
                    self.say(f"{name}: over")

    def _restart(self) -> None:
        """Do what systemd does: end what a supervisor left behind, and start it again."""
        for party in self.world.parties:
            name = party.folder.parent.name
            if ended := party.died():
                if name not in self._ended:
                    self._ended[name] = self.now
                    self.say(f"the supervisor of {name} ended: {ended.strip().splitlines()[-1][-200:]}")
                    party.kill()
                elif self.now >= self._ended[name] + RESTART_SECONDS:
                    del self._ended[name]
                    self.outcome.restarts[name] += 1
                    party.start(wait=False)


def features(root: Path) -> dict[str, Path]:
    """Write a features file a site."""
    root.mkdir()
    card = {"name": "soak", "width": WIDTH, "version": "1"}
    return {
        name: write(root / f"{name}.npz", vectors(IMAGES, WIDTH, seed), card)
        for seed, name in enumerate((*HONEST, *HOSTILE))
    }


@contextmanager
def federation(root: Path, data: Mapping[str, Path], seed: int) -> Iterator[World]:
    """Start a coordinator behind nginx, honest sites each with a cable, and hostile ones."""
    with ExitStack() as stack:
        folders = {name: root / "disks" / name / "fedtransfer" for name in ("coordinator", *HONEST)}
        for name, folder in folders.items() if FULL not in why_not() else ():
            stack.enter_context(disk(folder.parent, root / f"{name}.disk"))
        coordinator = CoordinatorParty(folders["coordinator"])
        settings = Coordinator.open(coordinator.folder).settings
        port = settings.port if NGINX else settings.superlink_port
        cables = {name: stack.enter_context(Relay(port)) for name in HONEST}
        sites = {
            name: SiteParty(folders[name], name, coordinator, data[name], f"localhost:{cables[name].port}")
            for name in HONEST
        }
        world = World(coordinator, sites, cables, root)
        stack.enter_context(world.door)
        stack.enter_context(stopping(*sites.values(), coordinator))
        if NGINX:
            world.open_door()
        start_all(coordinator, *sites.values())
        for number, name in enumerate(HOSTILE):
            hostile = SiteParty(root / name, name, coordinator, data[name])  # not by way of nginx' bounds
            stack.enter_context(attack(hostile, 1000 * seed + number))
        yield world


def soak(minutes: float, seed: int, root: Path, rounds: int = ROUNDS) -> Outcome:
    """Soak a federation for some minutes, and compare every head with its replay."""
    outcome, data = Outcome(seed), features(root / "data")
    with federation(root, data, seed) as world:
        outcome.measures = Measures()
        this = Soak(world, outcome, rounds, root / "faults.log")
        this.say(f"seed {seed}; no {why_not() or 'kind of fault is left out'}")
        try:
            this.last(60 * minutes)
        finally:
            this.end_faults(at_once=True)
            shutil.copytree(world.coordinator.folder / "runs", root / "runs")
            for party in world.parties:  # for whoever looks for causes
                logs = root / "logs" / party.folder.parent.name
                shutil.copytree(
                    party.folder / "state", logs, ignore=shutil.ignore_patterns("*.sock", "*.db*")
                )
    for name in outcome.runs:
        check(root / "runs" / name, rounds, data, root / "replays" / name, outcome)
    if outcome.rounds < ROUNDS_AN_HOUR * minutes / 60 / patient(1):
        outcome.failures.append(f"{outcome.rounds} rounds in {outcome.seconds / 60:.1f} minutes")
    outcome.failures += growth(outcome.measures)
    return outcome


def main() -> int:
    """Soak as the command line says; print and write what came of it; return the exit status."""
    parser = argparse.ArgumentParser(description="A federation under faults drawn at random.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each run")
    parser.add_argument("--folder", type=Path, help="a new folder for logs and runs; temporary without")
    parser.add_argument("--tables", type=Path, help="the folder of the tables' CSV files, docs/results")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # after an end to all that was started
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary) / "soak"
        root.mkdir()
        outcome = soak(options.minutes, options.seed, root.absolute(), options.rounds)
    for name, rows in tables(outcome).items():
        print(f"\n{name}")
        for row in rows:
            print("  ", ", ".join(f"{key} {value}" for key, value in row.items()))
        if options.tables and rows:
            with (options.tables / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    for site, reasons in outcome.reasons.items():
        print(f"\n{site} was left out:")
        for reason, times in reasons.most_common():
            print(f"{times:6}  {reason}")
    print("\n" + ("\n".join(f"FAILURE: {failure}" for failure in outcome.failures) or "passed"))
    return bool(outcome.failures)


if __name__ == "__main__":
    sys.exit(main())
