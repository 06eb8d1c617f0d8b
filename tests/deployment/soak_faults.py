"""Faults that befall a federation: each a context that begins one, says what it is, and ends it."""

import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from deployment.federation import CoordinatorParty, Party, SiteParty
from deployment.network import NGINX, Relay, nginx
from deployment.soak_processes import Process, processes

from fedtransfer.server.deployment.certificates import issue_server_certificate

DISK_BYTES = 2**31  # of a party; a site that starts asks for 1 GB


class Missed(Exception):
    """A fault that could not be brought about."""


@dataclass
class World:
    """A coordinator behind nginx, honest sites, and the cable of each."""

    coordinator: CoordinatorParty
    sites: Mapping[str, SiteParty]
    cables: Mapping[str, Relay]
    folder: Path
    door: ExitStack = field(default_factory=ExitStack)  # holds the nginx that runs now
    doors: int = 0

    @property
    def parties(self) -> list[Party]:
        return [self.coordinator, *self.sites.values()]

    def open_door(self) -> None:
        """Start nginx with what the coordinator's folder says now."""
        self.doors += 1
        site = (self.coordinator.folder / "nginx.conf").read_text("utf-8")
        self.door.enter_context(nginx(self.folder / f"nginx-{self.doors}", site))

    def reload_door(self) -> None:
        """Have nginx read its certificates again."""
        if self.doors:
            pid = (self.coordinator.folder / "state" / "nginx.pid").read_text()
            os.kill(int(pid), signal.SIGHUP)


Fault = Callable[[World, random.Random], AbstractContextManager[str]]


def _victim(world: World, rng: random.Random) -> Process:
    """Draw a party, then one of its processes."""
    running = processes([rng.choice(world.parties)])
    if not running:
        raise Missed("it is being started")
    return rng.choice(sorted(running, key=lambda process: process.role))


@contextmanager
def kill(world: World, rng: random.Random) -> Iterator[str]:
    """SIGKILL any process."""
    victim = _victim(world, rng)
    with suppress(ProcessLookupError):
        os.kill(victim.pid, signal.SIGKILL)
    yield f"{victim.role} of {victim.party}"


@contextmanager
def freeze(world: World, rng: random.Random) -> Iterator[str]:
    """SIGSTOP any process, and let it go on later."""
    victim = _victim(world, rng)
    with suppress(ProcessLookupError):
        os.kill(victim.pid, signal.SIGSTOP)
    try:
        yield f"{victim.role} of {victim.party}"
    finally:
        if victim in processes(world.parties):  # else its number may be another's by now
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGCONT)


@contextmanager
def lock_database(world: World, rng: random.Random) -> Iterator[str]:
    """Hold SuperLink's database, as a backup or a slow disk would."""
    path = world.coordinator.folder / "state" / "superlink.db"
    with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:  # a frozen SuperLink has it
            raise Missed(str(error)) from None
        yield path.name


@contextmanager
def restart_nginx(world: World, rng: random.Random) -> Iterator[str]:
    """Stop nginx, and start it again."""
    world.door.close()
    try:
        yield "nginx"
    finally:
        world.open_door()


@contextmanager
def expire_certificate(world: World, rng: random.Random) -> Iterator[str]:
    """Let the server's certificate expire, and renew it."""
    folder, key = world.coordinator.folder / "certificates", world.coordinator.authority_key
    past = datetime.now(UTC) - timedelta(days=2)
    issue_server_certificate(folder, ["localhost"], days=1, now=past, key_file=key)
    world.reload_door()
    try:
        yield "server.crt"
    finally:
        world.coordinator.command("renew")  # nginx and SuperLink take it up by themselves


@contextmanager
def fill_disk(world: World, rng: random.Random) -> Iterator[str]:
    """Fill the disk of a coordinator or a site."""
    party = rng.choice(world.parties)
    file = party.folder.parent / "full"
    try:
        with suppress(OSError), file.open("wb", buffering=0) as writing:
            free = os.statvfs(file)
            os.posix_fallocate(writing.fileno(), 0, int(0.99 * free.f_bfree) * free.f_bsize)
            writing.seek(0, os.SEEK_END)
            while True:  # until there is no space left
                writing.write(bytes(2**16))
        yield party.folder.parent.name
    finally:
        file.unlink()


@contextmanager
def cut_cable(world: World, rng: random.Random) -> Iterator[str]:
    """Cut the cable of a site: what is open goes silent, new connections are refused."""
    site = rng.choice(sorted(world.cables))
    world.cables[site].cut()
    try:
        yield site
    finally:
        world.cables[site].heal()


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what brings it about, its seconds, and during which others it cannot be."""

    fault: Fault
    seconds: tuple[float, float]
    not_during: frozenset[str] = frozenset()


KILLED, FROZEN, LOCKED, NGINX_RESTARTED = "kill -9", "SIGSTOP", "database locked", "nginx restarted"
EXPIRED, FULL, CUT = "certificate expired", "disk full", "cable cut"
KINDS = {
    KILLED: Kind(kill, (0.0, 0.0)),
    FROZEN: Kind(freeze, (1.0, 20.0)),
    LOCKED: Kind(lock_database, (5.0, 20.0), frozenset({FULL})),
    NGINX_RESTARTED: Kind(restart_nginx, (0.0, 3.0), frozenset({EXPIRED, FULL})),
    EXPIRED: Kind(expire_certificate, (5.0, 20.0), frozenset({FULL, NGINX_RESTARTED})),
    FULL: Kind(fill_disk, (10.0, 10.0), frozenset({EXPIRED, LOCKED, NGINX_RESTARTED})),
    CUT: Kind(cut_cable, (2.0, 20.0)),
}


@contextmanager
def disk(folder: Path, image: Path) -> Iterator[None]:
    """Mount a file system of its own on a folder, for root."""
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)  # it takes as much as is written
    folder.mkdir(parents=True)
    for command in (["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, folder]):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        image.unlink()


@cache
def why_not() -> dict[str, str]:
    """Return the kinds of faults that cannot be brought about on this machine, and why."""
    missing = {} if NGINX else {NGINX_RESTARTED: "there is no nginx"}
    if os.geteuid() != 0:
        return {**missing, FULL: "file systems are mounted by root only"}
    try:
        with TemporaryDirectory() as folder, disk(Path(folder) / "disk", Path(folder) / "image"):
            return missing
    except (OSError, subprocess.SubprocessError) as error:
        return {**missing, FULL: f"no file system can be mounted here: {error}"}
