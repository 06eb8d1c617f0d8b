"""The coordinator's own log: who enrolled whom, who started which run, and how it ended."""

import getpass
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from fedtransfer.common.errors import UserError
from fedtransfer.common.wire.protocol import settings_digest
from fedtransfer.server.cli import server
from fedtransfer.server.deployment.audit_log import audit_log, last_lines, log_lines, record
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import edit_current, read_current
from fedtransfer.server.deployment.enrolment import enrolled_sites
from fedtransfer.server.deployment.founding import found_coordinator


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return found_coordinator(
        tmp_path / "coordinator", ["localhost"], port=9443, superlink_port=9092, health_port=9093, user=""
    )


def command(coordinator: Coordinator, *words: str, status: int = 0) -> str:
    done = CliRunner().invoke(server, [*words, "--dir", str(coordinator.folder)])
    assert done.exit_code == status, done.output
    return done.output


def enrolled(coordinator: Coordinator, name: str, folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (folder / "site.pub").write_text(f"{line} {name}")
    command(coordinator, "enroll", str(folder / "site.pub"))


def became(coordinator: Coordinator, status: str, why: str = "", number: int | None = None) -> None:
    """Do as the supervisor does when a run is submitted, or ends."""
    with edit_current(coordinator) as current:
        assert current
        current.status, current.why = status, why
        if number:
            current.submissions.append(number)


def test_a_run_from_enrolment_to_its_end(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "maria")
    enrolled(coordinator, "anna", tmp_path)
    [site] = enrolled_sites(coordinator)
    command(coordinator, "run", "--detach", "--name", "first", "--rounds", "3")
    current = read_current(coordinator)
    assert current
    settings = hashlib.sha256(json.dumps(current.settings, sort_keys=True).encode()).hexdigest()
    became(coordinator, "running", number=2**63)
    command(coordinator, "stop", "--run")
    became(coordinator, "stopped")
    (current.folder / "config.toml").write_text(current.config.to_toml())
    command(coordinator, "run", "--detach", "--resume", "first")
    resumed = read_current(coordinator)
    assert resumed
    again = settings_digest(resumed.settings)
    monkeypatch.delenv("SUDO_USER")
    became(coordinator, "running", number=5)
    became(coordinator, "running")
    became(coordinator, "failed", "round 2: \x1b[2Jno site answered")
    command(coordinator, "revoke", "anna")
    entries = [*audit_log(coordinator).entries()]
    facts = [{k: v for k, v in entry.items() if k not in ("time", "before")} for entry in entries]
    assert facts == [
        {"event": "enrolled", "site": "anna", "key": site.fingerprint, "by": "maria"},
        {"event": "run started", "run": "first", "by": "maria", "settings": settings},
        {"event": "run submitted", "run": "first", "number": str(2**63)},
        {"event": "run stop", "run": "first", "by": "maria"},
        {"event": "run ended", "run": "first", "status": "stopped", "why": ""},
        {"event": "run resumed", "run": "first", "by": "maria", "settings": again},
        {"event": "run submitted", "run": "first", "number": "5"},
        {"event": "run ended", "run": "first", "status": "failed", "why": "round 2: \x1b[2Jno site answered"},
        {"event": "revoked", "site": "anna", "by": getpass.getuser()},
    ]
    output = command(coordinator, "audit-log")
    assert r"run ended: run first, status failed, why round 2: \x1b[2Jno site answered" in output
    assert all(line.isprintable() for line in output.splitlines())
    assert len(command(coordinator, "audit-log", "--lines", "2").splitlines()) == 3


def test_a_run_that_never_began_ends_too(coordinator: Coordinator, tmp_path: Path) -> None:
    enrolled(coordinator, "anna", tmp_path)
    command(coordinator, "run", "--detach", "--name", "first")
    command(coordinator, "stop", "--run")
    assert [entry["event"] for entry in audit_log(coordinator).entries()][1:] == ["run started", "run ended"]


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_line_that_was_taken_out_shows(coordinator: Coordinator, line: int) -> None:
    for number in range(4):
        record(coordinator, "enrolled", site=f"site-{number}", key="SHA256:x", by="root")
    command(coordinator, "audit-log")
    path = audit_log(coordinator).path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:line], *lines[line + 1 :]]))
    output = command(coordinator, "audit-log", status=1)
    assert f"line {line + 1} does not follow from the line before" in output


def test_what_cannot_be_recorded_does_not_happen(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled(coordinator, "anna", tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedtransfer.common.support.chain.append_line", full)
    with pytest.raises(
        UserError, match=r"audit\.jsonl: cannot be written: No space left on device; make room"
    ):
        CliRunner().invoke(
            server, ["revoke", "anna", "--dir", str(coordinator.folder)], catch_exceptions=False
        )
    assert [site.name for site in enrolled_sites(coordinator)] == ["anna"]


def test_a_line_that_somebody_wrote_is_shown_as_it_is(coordinator: Coordinator) -> None:
    """That the chain is broken there is what ``server audit-log`` is to say."""
    record(coordinator, "a run")
    with audit_log(coordinator).path.open("a") as file:
        file.write('{"event": "answers", "time": 1}\n{"event": 3}\n')
    assert last_lines(coordinator) == {}
    lines = log_lines(coordinator, 10, answers=True)
    assert len([line for line in lines if line.startswith("a line that records no event: ")]) == 2
    assert audit_log(coordinator).first_break() == 2
