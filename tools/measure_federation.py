"""Seconds a round of a real federation on this machine, next to an app that does nothing.

    python tools/measure_federation.py [SITES [ROUNDS]]  # 2, 20; the first round does not count

Coordinator, TLS, keys and number of sites are the same each time. The first app is ours. The second
one echoes each message on Flower's unchanged SuperNodes (a process for each message), with Flower's
``Grid.send_and_receive`` and with a server that polls as often as ours.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.cli.build import build_fab_from_files

from fedtransfer.client.deployment.founding import found_site
from fedtransfer.common.config.config import RunConfig, Value
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.processes import end, free_port, spawn, tool
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.enrolment import enrol
from fedtransfer.server.deployment.superlink import connect
from fedtransfer.server.sites.network import POLL_SECONDS
from fedtransfer.simulations.data.datasets import resolve_data
from fedtransfer.simulations.data.sites import sites_of, write_sites
from fedtransfer.simulations.engines.deployment import deployed

_PROJECT = """\
[project]
name = "noop"
version = "0.0.1"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "fedtransfer"
[tool.flwr.app.components]
serverapp = "noop:server"
clientapp = "noop:client"
[tool.flwr.app.config]
out = ""
sites = 0
rounds = 0
poll = 0.0
bytes = 0
"""
_APP = """
import json, time
from pathlib import Path
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server, client = ServerApp(), ClientApp()

@client.train()
def train(message, context):
    return Message(message.content, reply_to=message)

@server.main()
def main(grid, context):
    config, seconds = context.run_config, []
    while len(nodes := list(grid.get_node_ids())) < config["sites"]:
        time.sleep(0.2)
    for _ in range(config["rounds"]):
        array = Array("u1", (config["bytes"],), "raw", bytes(config["bytes"]))
        record = RecordDict({"arrays": ArrayRecord({"0": array})})
        messages, began = [Message(record, node, "train") for node in nodes], time.monotonic()
        if not config["poll"]:
            replies = list(grid.send_and_receive(messages, timeout=600))
        else:
            replies, waiting = [], set(grid.push_messages(messages))
            while waiting:
                time.sleep(config["poll"])
                came = list(grid.pull_messages(waiting))
                replies += came
                waiting -= {reply.metadata.reply_to_message_id for reply in came}
        assert len(replies) == len(nodes) and not any(reply.has_error() for reply in replies)
        seconds.append(time.monotonic() - began)
    Path(config["out"]).write_text(json.dumps(seconds))
"""


def measure(sites: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a line for each app: its seconds a round, without the first round."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = RunConfig(sites=sites, rounds=rounds, out=str(root / "run"))
        with deployed(
            write_sites(root / "run", config, sites_of(config)[1]),
            config,
            lambda line: print(line, file=sys.stderr),
        ) as federation:
            federation.run()
            events = [
                json.loads(line) for line in (root / "run" / "events.jsonl").read_text("utf-8").splitlines()
            ]
            trained = [e for e in events if e["event"] == "round" and e["phase"] == "train"]
            yield _line("fedtransfer", [e["seconds"] for e in trained])
            federation.stop_sites()
            with _plain_nodes(root, federation.coordinator, sites):
                size = trained[-1]["bytes_up"]
                for name, poll in (
                    ("no-op, Flower as it comes", 0.0),
                    ("no-op, server asks as ours", POLL_SECONDS),
                ):
                    yield _line(
                        name, _noop(federation.coordinator, root / "noop.json", sites, rounds, poll, size)
                    )


def _noop(
    coordinator: Coordinator, out: Path, sites: int, rounds: int, poll: float, size: int
) -> list[float]:
    out.unlink(missing_ok=True)
    bundle, _ = build_fab_from_files({"pyproject.toml": _PROJECT.encode(), "noop.py": _APP.encode()})
    settings: dict[str, Value] = {
        "out": str(out),
        "sites": sites,
        "rounds": rounds,
        "poll": poll,
        "bytes": size,
    }
    with connect(coordinator) as link:
        run = link.start(bundle, settings)
        while (status := link.run(run)) and status.status != "finished":
            time.sleep(1.0)
        if not out.exists():
            raise UserError(f"the no-op run did not finish: {status}")
    return list(json.loads(out.read_text()))


@contextmanager
def _plain_nodes(root: Path, coordinator: Coordinator, sites: int) -> Iterator[None]:
    """Run Flower's unchanged SuperNodes, each with an enrolled key."""
    processes: list[subprocess.Popen[bytes]] = []
    address, authority = (
        coordinator.superlink_address.replace("127.0.0.1", "localhost"),
        coordinator.certificates / "ca.crt",
    )
    try:
        for k in range(sites):
            site = found_site(
                root / f"plain-{k}", f"plain-{k}", address, authority, resolve_data("cifar10-demo")
            )
            enrol(coordinator, site.key.with_suffix(".pub"))
            command = [
                tool("flower-supernode"), "--superlink", address, "--root-certificates", str(authority),
                "--auth-supernode-private-key", str(site.key), "--port", str(free_port()),
            ]  # fmt: skip
            environment = {"PATH": f"{tool('')}:/usr/bin:/bin", "FLWR_HOME": str(site.state / "flower")}
            processes.append(spawn(command, site.state / "supernode.log", environment))
        yield
    finally:
        for process in processes:
            end(process)


def _line(name: str, seconds: Sequence[float]) -> dict[str, Any]:
    warm = seconds[1:]
    return {
        "app": name,
        "rounds": len(warm),
        "seconds_a_round": round(statistics.median(warm), 2),
        "fastest": round(min(warm), 2),
        "slowest": round(max(warm), 2),
    }


if __name__ == "__main__":
    sites, rounds = (*map(int, sys.argv[1:]), *(2, 20)[len(sys.argv) - 1 :])
    for line in measure(sites, rounds):
        print(json.dumps(line), flush=True)
