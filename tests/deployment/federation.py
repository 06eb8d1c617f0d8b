"""A federation of real processes for tests, driven by the commands that people type.

The processes are forked from a template (``forked.py``): TensorFlow is imported once, not per site.
"""

import json
import os
import re
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import forked
import numpy as np
from waiting import patient, wait_until

from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.status import is_up as is_site_up
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.status import describe as describe_coordinator

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))  # nginx listens at every address
        return int(free.getsockname()[1])


def arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in sorted(file.files) if name.startswith("array")]


class Party(ABC):
    """A coordinator or a site: its folder, and the process that runs it.

    ``inside`` goes before each command: ("ip", "netns", "exec", NAME) for a network of its own.
    """

    role = ""

    def __init__(self, folder: Path, inside: Sequence[str] = ()) -> None:
        self.folder, self.inside = folder, tuple(inside)
        self.process: subprocess.Popen[bytes] | forked.Process | None = None

    def command(
        self, *words: str, check: bool = True, seconds: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run ``fedtransfer ROLE WORDS --dir FOLDER``."""
        line = ["-m", "fedtransfer", self.role, *words]
        if words[0] != "init":
            line += ["--dir", str(self.folder)]
        if self.inside:
            line = [*self.inside, forked.python(), *line]
            done = subprocess.run(line, capture_output=True, text=True, timeout=patient(seconds), cwd=ROOT)
        else:
            done = forked.run(*line, seconds=patient(seconds))
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it is up."""
        line = ["-m", "fedtransfer", self.role, "start", "--dir", str(self.folder)]
        path = self.folder / "state" / "test.log"
        if self.inside:
            with path.open("ab") as log:
                self.process = subprocess.Popen(
                    [*self.inside, forked.python(), *line],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    cwd=ROOT,
                )
        else:
            self.process = forked.start(*line, output=path, nested=True)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it is up."""
        wait_until(self.is_up, f"{self.folder} is up", self.died)

    @abstractmethod
    def is_up(self) -> bool: ...

    def died(self) -> str:
        """Say how its process ended; "" while it runs."""
        if self.process is None or self.process.poll() is None:
            return ""
        return f"exit status {self.process.returncode}: {self.log()}"

    def log(self) -> str:
        path = self.folder / "state" / "test.log"
        return path.read_text("utf-8", "replace")[-4000:] if path.exists() else ""

    def processes(self) -> list[int]:
        """Its processes: those that name its folder, their children, and those forked for them."""
        listing = subprocess.run(["ps", "-eww", "-o", "pid,ppid,args"], capture_output=True, text=True).stdout
        rows = [
            (int(a), int(b), c) for a, b, c in re.findall(r"^\s*(\d+)\s+(\d+)\s+(.*)$", listing, re.MULTILINE)
        ]
        mine = {pid for pid, _, args in rows if str(self.folder) in args and "-m pytest" not in args}
        if self.process and self.process.poll() is None:
            mine.add(self.process.pid)
        while True:
            work = {forked.forked_for(pid) for pid in mine}
            more = {pid for pid, parent, _ in rows if parent in mine or pid in work} - mine
            if not more:
                break
            mine |= more
        return sorted(mine - {os.getpid()})

    def kill(self) -> None:
        """Kill -9 all at once, as a power cut would, and what they started while being listed."""

        def are_gone() -> bool:
            left = self.processes()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_until(are_gone, f"no process of {self.folder} is left")
        if self.process:
            self.process.wait(30)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patient(40))
            except subprocess.TimeoutExpired:
                self.kill()


class CoordinatorParty(Party):
    role = "server"

    def __init__(self, folder: Path, inside: Sequence[str] = (), host: str = "localhost") -> None:
        super().__init__(folder, inside)
        self.port = free_port()
        ports = [
            "--superlink-port",
            str(self.port),
            "--health-port",
            str(free_port()),
            "--port",
            str(free_port()),
        ]
        self.command("init", str(folder), "--host", host, *ports)

    @property
    def authority(self) -> Path:
        return self.folder / "certificates" / "ca.crt"

    @property
    def authority_key(self) -> Path:
        return Coordinator.open(self.folder).authority_key

    def is_up(self) -> bool:
        return bool(self.status()["serving"])

    def run(self, *options: str, name: str = "run") -> Path:
        """Run a federation to its end; return the run folder."""
        self.command("run", "--name", name, *options)
        return self.folder / "runs" / name

    def events(self, name: str = "run", kind: str = "") -> list[dict[str, Any]]:
        path = self.folder / "runs" / name / "events.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line)) and kind in ("", event["event"])]

    def rounds(self, name: str = "run") -> list[dict[str, Any]]:
        """The rounds of training that counted."""
        return [e for e in self.events(name, "round") if e["phase"] == "train" and not e["failure"]]

    def wait_for_round(self, number: int, name: str = "run") -> None:
        wait_until(
            lambda: any(e["round"] >= number for e in self.rounds(name)), f"round {number} of {name} is done",
            lambda: self.died() or self._failed(name), seconds=600,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """Return what ``server status --json`` prints."""
        if self.inside:
            return dict(json.loads(self.command("status", "--json", check=False).stdout))
        return describe_coordinator(Coordinator.open(self.folder))

    def wait_for_end(self, name: str = "run") -> Path:
        """Wait until the run is finished; return its folder. Stop one that takes too long."""
        try:
            wait_until(
                lambda: self.current()["status"] not in ("wanted", "running"),
                f"the run {name} ended", self.died, 600,
            )  # fmt: skip
        except AssertionError:
            self.command("stop", "--run", check=False)
            raise
        assert not self._failed(name)
        return self.folder / "runs" / name

    def current(self) -> dict[str, Any]:
        """Return the current run, as the coordinator's commands write it."""
        return dict(json.loads((self.folder / "state" / "run.json").read_text()))

    def _failed(self, name: str) -> str:
        run = self.current()
        return (
            f"the run {name} {run['status']}: {run['why']}" if run["status"] in ("failed", "stopped") else ""
        )


class SiteParty(Party):
    role = "client"

    def __init__(
        self, folder: Path, name: str, coordinator: CoordinatorParty, data: Path, address: str = "",
        inside: Sequence[str] = (), enrol: bool = True, authority: Path | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder, inside)
        self.name = name
        where = address or f"localhost:{coordinator.port}"
        ca = authority or coordinator.authority
        self.command(
            "init", str(folder), "--name", name, "--coordinator", where, "--ca", str(ca), "--data", str(data)
        )  # fmt: skip
        if enrol:
            coordinator.command("enroll", str(folder / "site.pub"))

    def is_up(self) -> bool:
        if self.inside:
            return self.command("status", check=False).returncode == 0
        return is_site_up(SiteFolder.open(self.folder))

    def settings(self, old: str, new: str) -> None:
        """Change a line of site.toml."""
        path = self.folder / "site.toml"
        text = path.read_text("utf-8")
        assert old in text, text
        path.write_text(text.replace(old, new), "utf-8")

    def sent(self) -> list[dict[str, Any]]:
        path = self.folder / "sent.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


@contextmanager
def stopping(*parties: Party) -> Iterator[None]:
    """Stop these at the end, whatever happened; sites first."""
    try:
        yield
    finally:
        for party in parties:
            party.stop()


def start_all(coordinator: CoordinatorParty, *sites: SiteParty) -> None:
    """Start them side by side."""
    coordinator.start()
    for site in sites:
        site.start(wait=False)
    for site in sites:
        wait_until(lambda site=site: "waiting for runs" in site.log(), f"{site.name} is up", site.died)
        site.wait()
