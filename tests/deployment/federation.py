"""A federation of real processes for tests, driven by the commands that people type."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return value


def arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in sorted(file.files) if name.startswith("array")]


class Party:
    """A coordinator or a site: its folder, and the process that runs it.

    ``inside`` goes before each command: ("ip", "netns", "exec", NAME) for one with a network of its own.
    """

    role = ""

    def __init__(self, folder: Path, inside: Sequence[str] = ()) -> None:
        self.folder, self.inside = folder, tuple(inside)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str, check: bool = True, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run ``fedtransfer ROLE WORDS --dir FOLDER``."""
        line = [*self.inside, sys.executable, "-m", "fedtransfer", self.role, *words]
        if words[0] != "init":
            line += ["--dir", str(self.folder)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *, wait: bool = True) -> None:
        """Start in a process group of its own."""
        log = (self.folder / "state" / "test.log").open("ab")
        line = [*self.inside, sys.executable, "-m", "fedtransfer", self.role, "start", "--dir", str(self.folder)]
        self.process = subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT)
        log.close()
        if wait:
            self.wait()

    def wait(self, seconds: float = 120.0) -> None:
        """Wait until it is up."""
        wait_until(lambda: self.is_up() or self._ended(), seconds, f"{self.folder} is up: {self.log()}")
        assert not self._ended(), self.log()

    def is_up(self) -> bool:
        return self.command("status", check=False).returncode == 0

    def log(self) -> str:
        path = self.folder / "state" / "test.log"
        return path.read_text("utf-8", "replace")[-4000:] if path.exists() else ""

    def processes(self) -> list[int]:
        """The processes of this party: those that name its folder, and their children."""
        listing = subprocess.run(["ps", "-eww", "-o", "pid,ppid,args"], capture_output=True, text=True).stdout
        rows = [(int(a), int(b), c) for a, b, c in re.findall(r"^\s*(\d+)\s+(\d+)\s+(.*)$", listing, re.MULTILINE)]
        mine = {pid for pid, _, args in rows if str(self.folder) in args and "-m pytest" not in args}
        while more := {pid for pid, parent, _ in rows if parent in mine} - mine:
            mine |= more
        return sorted(mine - {os.getpid()})

    def kill(self) -> None:
        """Kill -9 all at once, as a power cut would: those too that one of them started while they were listed."""
        deadline = time.monotonic() + 60
        while left := self.processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            states = ["ps", "-ww", "-o", "pid,ppid,stat,etimes,args", "-p", ",".join(map(str, left))]
            assert time.monotonic() < deadline, subprocess.run(states, capture_output=True, text=True).stdout
            time.sleep(0.2)
        if self.process:
            self.process.wait(30)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


class CoordinatorParty(Party):
    role = "server"

    def __init__(self, folder: Path, inside: Sequence[str] = (), host: str = "localhost") -> None:
        super().__init__(folder, inside)
        self.port = free_port()
        ports = ["--superlink-port", str(self.port), "--health-port", str(free_port()), "--port", str(free_port())]
        self.command("init", str(folder), "--host", host, *ports)

    @property
    def authority(self) -> Path:
        return self.folder / "certificates" / "ca.crt"

    def run(self, *options: str, name: str = "run", timeout: float = 400.0) -> Path:
        """Run a federation to its end; return the run folder."""
        self.command("run", "--name", name, *options, timeout=timeout)
        return self.folder / "runs" / name

    def events(self, name: str = "run", kind: str = "") -> list[dict[str, Any]]:
        path = self.folder / "runs" / name / "events.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line)) and kind in ("", event["event"])]

    def rounds(self, name: str = "run") -> list[dict[str, Any]]:
        """The rounds of training that counted."""
        return [e for e in self.events(name, "round") if e["phase"] == "train" and not e["failure"]]

    def wait_for_round(self, number: int, name: str = "run", seconds: float = 200.0) -> None:
        wait_until(lambda: any(e["round"] >= number for e in self.rounds(name)), seconds, f"round {number} is done")

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.command("status", "--json", check=False).stdout))

    def wait_for_end(self, name: str = "run", seconds: float = 400.0) -> Path:
        """Wait until the run is finished; return its folder."""
        path = self.folder / "state" / "run.json"
        wait_until(
            lambda: json.loads(path.read_text())["status"] not in ("wanted", "running"), seconds, "the run ended"
        )
        run = json.loads(path.read_text())
        assert run["status"] == "finished", run["why"]
        return self.folder / "runs" / name


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
    """Start them side by side; asking for their status all the while would take the processors from them."""
    coordinator.start()
    for site in sites:
        site.start(wait=False)
    for site in sites:
        wait_until(lambda site=site: "waiting for runs" in site.log() or site._ended(), 150, f"{site.name} is up")
        site.wait()
