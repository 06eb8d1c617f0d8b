"""Networks for tests: namespaces joined by cables, nginx, a path slow or cut, and its traffic."""

import asyncio
import ctypes
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from waiting import wait_until

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
IPV6 = Path("/proc/net/if_inet6").exists()

_NEWNET = 0x40000000  # of setns
_PACKET, _PACKET_STATISTICS, _RCVBUFFORCE, _OUTGOING = 263, 6, 33, 4  # of Linux; not in the socket module


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True, timeout=30).stdout


@cache
def why_no_namespaces() -> str:
    """Say why this machine cannot make networks of its own; "" where it can."""
    if os.geteuid() != 0:
        return "network namespaces are for root only"
    if not shutil.which("ip"):
        return "there is no ip command"
    try:
        with network() as trial:
            trial.join("site")
    except (subprocess.SubprocessError, OSError) as error:
        return f"network namespaces cannot be made here: {getattr(error, 'stderr', '') or error}"
    return ""


@cache
def why_no_loss() -> str:
    """Say why packets cannot be lost at random on this machine; "" where they can."""
    if why := why_no_namespaces():
        return why
    with network() as trial:
        trial.join("site")
        try:
            trial.lose("site", 1.0)
        except (subprocess.CalledProcessError, OSError) as error:
            why = (getattr(error, "stderr", "") or str(error)).strip()
            return f"netem, which loses packets, is not to be had: {why}"
    return ""


class Network:
    """A namespace for the coordinator, one for each site, and a cable from each site to it."""

    def __init__(self) -> None:
        self.name = f"fedtransfer-{secrets.token_hex(3)}"
        self._prefix = f"10.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        self.parties: list[str] = []
        self._cables: list[Cable] = []
        self.coordinator = f"{self._prefix}.1"

    def inside(self, party: str) -> tuple[str, ...]:
        """What goes before a command that is to run where this party is."""
        return ("ip", "netns", "exec", f"{self.name}-{party}")

    def join(self, site: str) -> "Cable":
        """Give a site a namespace, and a cable to the coordinator."""
        address = f"{self._prefix}.{10 + len(self.parties)}"
        self.add(site)
        ours, theirs = f"{self.name}-coordinator", f"{self.name}-{site}"
        end = f"to-{len(self.parties)}"
        _ip("link", "add", end, "netns", ours, "type", "veth", "peer", "name", "cable", "netns", theirs)
        _ip("-n", ours, "address", "add", self.coordinator, "peer", address, "dev", end)
        _ip("-n", theirs, "address", "add", address, "peer", self.coordinator, "dev", "cable")
        cable = Cable(ours, end, address)
        self._cables.append(cable)
        # The site's own end last: nothing passes before it is watched.
        _ip("-n", ours, "link", "set", end, "up")
        _ip("-n", theirs, "link", "set", "cable", "up")
        return cable

    def lose(self, site: str, percent: float) -> None:
        """Lose packets from a site at random."""
        place = [
            "ip",
            "netns",
            "exec",
            f"{self.name}-{site}",
            "tc",
            "qdisc",
            "add",
            "dev",
            "cable",
            "root",
            "netem",
        ]
        subprocess.run([*place, "loss", f"{percent}%"], capture_output=True, text=True, check=True)

    def remove(self) -> None:
        """Remove what was made, and end what still runs in it."""
        for cable in self._cables:
            cable.end()
        for party in self.parties:
            for pid in _ip("netns", "pids", f"{self.name}-{party}").split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for party in self.parties:
            _ip("netns", "delete", f"{self.name}-{party}")

    def add(self, party: str) -> None:
        _ip("netns", "add", f"{self.name}-{party}")
        self.parties.append(party)
        _ip("-n", f"{self.name}-{party}", "link", "set", "lo", "up")


@contextmanager
def network() -> Iterator[Network]:
    made = Network()
    try:
        made.add("coordinator")
        yield made
    finally:
        made.remove()


class Cable:
    """A site's cable, watched at the coordinator's end from before the first packet.

    Attributes:
        address: the site's.
        packets, size: number and bytes of the packets that came from the site, by kind.
    """

    def __init__(self, namespace: str, end: str, address: str) -> None:
        self.address = address
        self.packets: Counter[str] = Counter()
        self.size: Counter[str] = Counter()
        self._namespace, self._end = namespace, end
        opened: list[socket.socket] = []
        opening = threading.Thread(target=lambda: opened.append(self._listen()))  # setns holds for one thread
        opening.start()
        opening.join()
        self._socket = opened[0]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def counted(self) -> int:
        """Return the bytes from the site that the kernel has counted."""
        link = json.loads(_ip("-n", self._namespace, "-json", "-statistics", "link", "show", self._end))[0]
        return int(link["stats64"]["rx"]["bytes"])

    def missed(self) -> int:
        """Return how many packets came too fast to be watched, since the last time."""
        return int(struct.unpack("II", self._socket.getsockopt(_PACKET, _PACKET_STATISTICS, 8))[1])

    def end(self) -> None:
        """Watch no longer."""
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> socket.socket:
        with Path(f"/run/netns/{self._namespace}").open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        opened.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 2**26)
        opened.bind((self._end, 0))
        opened.settimeout(0.2)
        return opened

    def _watch(self) -> None:
        while True:
            try:
                packet, (_, _, direction, *_) = self._socket.recvfrom(2**18)
            except TimeoutError:
                if self._ending.is_set():
                    return
                continue
            except OSError:  # it is down still
                continue
            if direction != _OUTGOING:
                kind = kind_of(packet)
                self.packets[kind] += 1
                self.size[kind] += len(packet)


def kind_of(packet: bytes) -> str:
    """Name an Ethernet packet."""
    protocol = int.from_bytes(packet[12:14])
    if protocol == 0x0806:
        return "ARP"
    if protocol == 0x0800:
        ends = f"{socket.inet_ntoa(packet[26:30])} to {socket.inet_ntoa(packet[30:34])}"
        header = packet[14 + 4 * (packet[14] & 15) :]
        if packet[23] == socket.IPPROTO_TCP:
            return f"TCP, {ends}:{int.from_bytes(header[2:4])}"
        return f"IPv4 protocol {packet[23]}, {ends}"
    if protocol == 0x86DD:
        following, rest = packet[20], packet[54:]
        if following == 0:  # options before the real header
            following, rest = rest[0], rest[8 * (1 + rest[1]) :]
        to_link = packet[38:40] == b"\xff\x02" or packet[38] == 0xFE
        if following == socket.IPPROTO_ICMPV6 and rest[0] in (133, 135, 136, 143) and to_link:
            return "IPv6 neighbours"
        return f"IPv6 protocol {following}"
    return f"protocol {protocol:#06x}"


@contextmanager
def nginx(folder: Path, configuration: str, inside: Sequence[str] = ()) -> Iterator[None]:
    """Run nginx with a coordinator's ``nginx.conf``; its errors are in ``folder/error.log``."""
    folder.mkdir()
    lines = [line for line in configuration.splitlines() if IPV6 or "remove this line where IPv6" not in line]
    (folder / "nginx.conf").write_text("\n".join(lines))
    found = re.search(r'^pid "(.*)";$', configuration, re.MULTILINE)
    assert NGINX
    assert found
    up = Path(found[1])  # written once it listens
    with (folder / "error.log").open("ab") as errors:
        words = [*inside, NGINX, "-e", "stderr", "-c", str(folder / "nginx.conf")]
        process = subprocess.Popen(words, stderr=errors)
    try:
        wait_until(
            up.exists,
            "nginx is up",
            lambda: process.poll() is not None and (folder / "error.log").read_text(),
        )
        yield
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Connection:
    """What went over one connection, as it was read from each side.

    Attributes:
        sent, answered: from the one who connected, and back.
        cuts: how often the path had been cut before.
    """

    cuts: int
    sent: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)


class Relay:
    """A path to a port of this machine: it can be slow, be cut and heal, and keeps what passes.

    Attributes:
        port: where it listens, on this machine only.
        connections: every one so far.
        open: the number of those that have not ended.
    """

    def __init__(self, target: int, latency: float = 0.0, certificates: Path | None = None) -> None:
        """Relay to port ``target``.

        Args:
            target: the port.
            latency: seconds of a round trip; a new connection takes one, as TCP's does.
            certificates: ca.crt, server.crt and server.key with which it ends TLS on both sides, so
                that what it keeps can be read; None to pass on what comes.
        """
        self.connections: list[Connection] = []
        self._target, self._latency, self._certificates = target, latency, certificates
        self._cuts, self._is_cut, self._hangs_up, self.port = 0, False, False, 0
        self._tasks: set[Any] = set()  # asyncio forgets those that wait for what never comes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def open(self) -> int:
        return len(self._tasks)

    def __enter__(self) -> "Relay":
        self._thread.start()
        self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Refuse connections; those that are there go silent for good, and neither side is told."""
        self._do(self._cut())

    def heal(self) -> None:
        """Take connections again."""
        self._do(self._listen())

    @contextmanager
    def hanging_up(self) -> Iterator[None]:
        """Break the connections; take new ones, and hang up after their first bytes."""
        self._hangs_up = True
        self._do(self._break())
        yield
        self._hangs_up = False

    @contextmanager
    def leading_to(self, port: int) -> Iterator[None]:
        """Break the connections, and lead new ones to another port for a while."""
        before, self._target = self._target, port
        self._do(self._break())
        yield
        self._target = before
        self._do(self._break())

    async def _break(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _do(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _listen(self) -> None:
        tls = None
        if self._certificates:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self._certificates / "server.crt", self._certificates / "server.key")
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self._is_cut = False

    async def _cut(self) -> None:
        self._server.close()
        self._cuts, self._is_cut = self._cuts + 1, True

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        connection = Connection(self._cuts)
        self.connections.append(connection)
        self._tasks.add(asyncio.current_task())
        tls = ssl.create_default_context(cafile=self._certificates / "ca.crt") if self._certificates else None
        try:
            if self._hangs_up:
                await here.read(2**16)
                return
            await asyncio.sleep(self._latency)
            there, on = await asyncio.open_connection(
                "127.0.0.1", self._target, ssl=tls, server_hostname="localhost" if tls else None
            )
            try:
                await asyncio.gather(
                    self._pass(here, on, connection, connection.sent),
                    self._pass(there, back, connection, connection.answered),
                )
            finally:
                on.close()
        except (OSError, asyncio.CancelledError):  # asyncio would complain of a connection that is cancelled
            pass
        finally:
            self._tasks.discard(asyncio.current_task())
            back.close()

    async def _pass(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        connection: Connection,
        kept: bytearray,
    ) -> None:
        """Pass on what comes, each piece half a round trip later."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            data = b"."
            while data:
                try:
                    data = await source.read(2**16)
                except OSError:  # reset
                    data = b""
                kept.extend(data)
                under_way.put_nowait((self._loop.time() + self._latency / 2, data))

        reading = asyncio.create_task(read())
        try:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - self._loop.time())
                if self._is_cut or connection.cuts < self._cuts:
                    continue
                if not data:
                    break
                target.write(data)
                await target.drain()
        finally:
            reading.cancel()
            target.close()
