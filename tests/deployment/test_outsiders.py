"""An outsider without a key, at the port that everybody reaches, does nothing that sites notice."""

import asyncio
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from deployment.federation import CoordinatorParty, SiteParty, arrays, start_all, stopping
from deployment.network import NGINX, nginx
from pictures import class_folders
from waiting import wait_until

from fedtransfer.server.deployment.coordinator import Coordinator

pytestmark = pytest.mark.full

CONNECTIONS, ADDRESSES = 400, 20
BODIES, MEGABYTE = 16, 1_000_000
ROUNDS = 8


class Outsider:
    """Holds 400 connections, silent or within the TLS handshake, and sends 16 bodies of 60 MB.

    A connection that the other side ends is opened again.

    Attributes:
        outcomes: how often each end came.
        held: the connections that are open now.
    """

    def __init__(self, port: int, authority: Path) -> None:
        self._port, self._trust = port, ssl.create_default_context(cafile=authority)
        self.outcomes: Counter[str] = Counter()
        self.held = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "Outsider":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _begin(self) -> None:
        hangs = [self._again(self._hang, number) for number in range(CONNECTIONS)]
        floods = [self._again(self._flood, number) for number in range(BODIES)]
        self._tasks = [asyncio.ensure_future(task) for task in (*hangs, *floods)]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _again(self, attack, number: int) -> None:  # type: ignore[no-untyped-def]
        while True:
            with suppress(OSError):
                await attack(f"127.0.0.{2 + number % ADDRESSES}", number)
            await asyncio.sleep(0.2)

    async def _hang(self, address: str, number: int) -> None:
        there, on = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
        self.held += 1
        plain = on.get_extra_info("socket")
        plain.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # frees its port at once
        try:
            if number % 2:
                on.write(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a ClientHello of 512
            await there.read()
            self.outcomes["cut off"] += 1
        finally:
            self.held -= 1
            on.close()

    async def _flood(self, address: str, number: int) -> None:
        there, on = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(address, 0), ssl=self._trust, server_hostname="localhost"
        )
        try:
            head = (
                "POST /v1/fleet/push-object HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n"
            )
            on.write(head.encode())
            answer = asyncio.ensure_future(there.readline())
            for _ in range(60):
                on.write(bytes(MEGABYTE))
                await on.drain()
            self.outcomes[(await answer).decode().strip()] += 1
        except OSError:
            self.outcomes["refused"] += 1
        finally:
            on.transport.abort()


@dataclass
class Federation:
    """Two sites behind nginx."""

    coordinator: CoordinatorParty
    sites: list[SiteParty]

    @property
    def port(self) -> int:
        return Coordinator.open(self.coordinator.folder).settings.port

    def memory(self) -> int:
        """Return the bytes in memory of the coordinator's processes."""
        total = 0
        for pid in self.coordinator.processes():
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        return total

    def seconds(self, name: str) -> float:
        return median(each["seconds"] for each in self.coordinator.rounds(name)[1:])


@contextmanager
def federation_in(folder: Path) -> Iterator[Federation]:
    coordinator = CoordinatorParty(folder / "coordinator")
    settings = Coordinator.open(coordinator.folder).settings
    sites = [
        SiteParty(folder / name, name, coordinator, class_folders(folder / f"of {name}", seed),
                  f"localhost:{settings.port}")
        for seed, name in enumerate(("heart", "lung"))
    ]  # fmt: skip
    text = (coordinator.folder / "nginx.conf").read_text("utf-8")
    with nginx(folder / "nginx", text), stopping(*sites, coordinator):
        start_all(coordinator, *sites)
        yield Federation(coordinator, sites)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    if not NGINX:
        pytest.skip("there is no nginx")
    with federation_in(tmp_path_factory.mktemp("outsiders")) as federation:
        yield federation


def test_an_outsider_neither_holds_up_a_round_nor_fills_the_memory(federation: Federation) -> None:
    coordinator = federation.coordinator
    calm = coordinator.run("--rounds", str(ROUNDS), name="calm")
    before = federation.memory()
    with Outsider(federation.port, coordinator.authority) as outsider:
        wait_until(lambda: outsider.held >= CONNECTIONS, "all connections are open")
        attacked = coordinator.run("--rounds", str(ROUNDS), name="attacked")
        growth = federation.memory() - before
    ratio = federation.seconds("attacked") / federation.seconds("calm")
    print(
        f"\n{federation.seconds('calm'):.2f} s a round, {federation.seconds('attacked'):.2f} s under attack"
        f" ({ratio:.2f} x); {growth / 1e6:.0f} MB more; {dict(outsider.outcomes)}"
    )
    for ours, theirs in zip(arrays(calm / "head.npz"), arrays(attacked / "head.npz"), strict=True):
        assert (ours == theirs).all()
    assert all(each["present"] == ["heart", "lung"] for each in coordinator.rounds("attacked"))
    assert set(outsider.outcomes) <= {"cut off", "refused", "HTTP/1.1 401 Unauthorized"}
    assert growth < 200 * MEGABYTE  # one of the 16 bodies is 60; what a run itself needs is below 100
    assert ratio < 2  # measured: docs/faults.md; the bound is wide, for other tests run meanwhile
