"""The logs of a coordinator and its sites: neither loses its end unseen. Whole runs, in process."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed_sites import Deployment
from flwr.app import Context, Message
from typer.testing import CliRunner

from fedtransfer.client.cli import client
from fedtransfer.client.consent.countersignature import Countersignature
from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire import records as wire
from fedtransfer.server.cli import server
from fedtransfer.server.deployment.audit_log import ANSWERS, audit_log, last_lines, record

pytestmark = [pytest.mark.run, pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A federation that has made a run."""
    world = Deployment(tmp_path_factory.mktemp("receipts"))
    world.run("first")
    return world


@pytest.fixture
def log_of_bert(world: Deployment) -> Iterator[Path]:
    """Bert's log; after the test its people have looked into what was wrong with it."""
    site = world.sites["bert"]
    yield site.exchange_log
    (site.folder / "sent-lost.jsonl").unlink(missing_ok=True)
    Countersignature(site).receive(ExchangeLog(site.exchange_log).chain.last_hash())


def verify(world: Deployment, site: str) -> tuple[int, str]:
    done = CliRunner().invoke(client, ["log", "--verify", "--dir", str(world.sites[site].folder)])
    return done.exit_code, " ".join(done.output.split())


def test_the_coordinator_has_the_last_line_of_each_sites_log(world: Deployment) -> None:
    logs = {name: ExchangeLog(site.exchange_log).chain for name, site in world.sites.items()}
    assert last_lines(world.coordinator) == {name: log.last_hash() for name, log in logs.items()}
    entries = [entry for entry in audit_log(world.coordinator).entries() if entry["event"] == ANSWERS]
    assert {entry["kind"] for entry in entries} >= {"query", "train", "evaluate", "evaluate.finish"}
    assert entries[0]["run"] == "first"
    assert audit_log(world.coordinator).first_break() is None
    for name in world.sites:
        assert verify(world, name)[0] == 0


def test_what_the_coordinator_has_comes_with_its_next_message(world: Deployment) -> None:
    brought: list[tuple[str, str]] = []

    def look(message: Message, context: Context) -> Message:
        site = world.sites[Path(str(context.node_config["site"])).name]
        last = ExchangeLog(site.exchange_log).chain.last_hash()
        brought.append((wire.stamped(message.content, wire.LOG), last))
        return message

    world.run("second", look, rounds=1)
    assert len(brought) >= 8
    assert all(named == last for named, last in brought), "and no answer was lost meanwhile"


@pytest.mark.parametrize("lines", [1, 3])
def test_a_log_that_lost_its_end_shows_at_the_next_message(
    world: Deployment, log_of_bert: Path, lines: int
) -> None:
    whole = log_of_bert.read_bytes().splitlines(keepends=True)
    log_of_bert.write_bytes(b"".join(whole[:-lines]))
    assert ExchangeLog(log_of_bert).first_break() is None, "by itself it looks whole"
    world.run(f"after-{lines}", rounds=1)
    status, text = verify(world, "bert")
    assert status == 1
    assert "its end was cut off, or the file replaced" in text
    assert "sent-lost.jsonl" in text
    assert verify(world, "anna")[0] == 0
    world.run(f"later-{lines}", rounds=1)
    assert verify(world, "bert")[0] == 1, "until its people have looked into it"


def test_a_log_that_was_written_again_shows(world: Deployment, log_of_bert: Path) -> None:
    entries = [*ExchangeLog(log_of_bert).entries()]
    log_of_bert.unlink()
    for entry in entries:
        ExchangeLog(log_of_bert).chain.append({**entry, "bytes": 0})
    assert ExchangeLog(log_of_bert).first_break() is None
    world.run("rewritten", rounds=1)
    assert verify(world, "bert")[0] == 1


def test_a_coordinator_that_makes_up_hashes_fills_no_disk(world: Deployment, log_of_bert: Path) -> None:
    countersignature = Countersignature(world.sites["bert"])
    for number in range(150):
        countersignature.receive(f"{number:064x}")
    assert len(countersignature.losses()) == 100


@pytest.mark.parametrize("line", ["", "f" * 63, "F" * 64, "f" * 64 + "\n", 7, b"f" * 64])
def test_what_is_no_hash_is_no_receipt(line: object) -> None:
    records = wire.pack(SiteError("tired", "no more today"))
    records["head"]["log"] = line  # type: ignore[index]
    assert wire.stamped(records, wire.LOG) == ""


def test_a_site_that_is_enrolled_again_may_begin_another_log(world: Deployment) -> None:
    before = last_lines(world.coordinator)
    record(world.coordinator, "enrolled", site="anna", key="SHA256:x", by="root")
    assert last_lines(world.coordinator) == {"bert": before["bert"]}
    world.run("again", rounds=1)
    assert verify(world, "anna")[0] == 0


def test_the_coordinators_log_shows_a_change(world: Deployment) -> None:
    path = world.coordinator.folder / "audit.jsonl"
    before = path.read_bytes()
    command = ["audit-log", "--answers", "--dir", str(world.coordinator.folder)]
    done = CliRunner().invoke(server, command)
    assert done.exit_code == 0
    assert f"last line of bert's log: {last_lines(world.coordinator)['bert']}" in done.output
    lines = before.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    done = CliRunner().invoke(server, command)
    path.write_bytes(before)
    assert done.exit_code == 1
    assert "line 3 does not follow from the line before" in done.output


def test_a_full_disk_at_the_coordinator_ends_no_run(
    world: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fedtransfer.common.support.chain.Chain.append", full)
        patch.setattr("fedtransfer.client.consent.exchange_log.ExchangeLog.write", lambda *_: None)
        world.run("full", rounds=1)
    assert (
        json.loads((world.coordinator.folder / "runs" / "full" / "summary.json").read_text())["rounds"] == 1
    )
