"""What `server status` says of the sites' clocks and versions."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flwr.common.constant import TIMESTAMP_HEADER

from fedtransfer.common.wire.bundle import SOURCES_HEADER, sources_digest
from fedtransfer.server.deployment.attendance import FILE, Attendance, remarks


def headers(ahead: float = 0.0, sources: str = "") -> dict[str, str]:
    time = (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat()
    return {TIMESTAMP_HEADER: time, SOURCES_HEADER: sources or sources_digest()}


def test_sites_with_nothing_to_be_seen_to(tmp_path: Path) -> None:
    assert remarks(tmp_path) == {}
    Attendance(tmp_path).note("north", headers(ahead=-2))
    assert remarks(tmp_path) == {"north": []}
    (tmp_path / FILE).write_text("torn")
    assert remarks(tmp_path) == {}


@pytest.mark.parametrize(
    ("ahead", "sources", "words"),
    [
        (-70.0, "", r"its clock is -7[0-9] s off"),
        (3600.0, "", r"its clock is \+3[56][0-9][0-9] s off"),
        (0.0, "0" * 64, "another version of fedtransfer \\(0000000000000000…, here "),
    ],
)
def test_what_must_be_seen_to(tmp_path: Path, ahead: float, sources: str, words: str) -> None:
    attendance = Attendance(tmp_path)
    attendance.note("south", headers())
    attendance.note("north", headers(ahead, sources))
    [sentence] = remarks(tmp_path)["north"]
    assert re.search(words, sentence)
    assert remarks(tmp_path)["south"] == []
    attendance.note("north", headers())
    assert remarks(tmp_path)["north"] == [], "it was mended"


def test_the_file_is_written_when_something_changes_only(tmp_path: Path) -> None:
    attendance = Attendance(tmp_path)
    attendance.note("north", headers())
    before = (tmp_path / FILE).stat().st_mtime_ns
    attendance.note("north", headers())
    assert (tmp_path / FILE).stat().st_mtime_ns == before


def test_no_text_of_a_sites_choice_is_kept(tmp_path: Path) -> None:
    Attendance(tmp_path).note("north", headers(sources="=HYPERLINK(1)" * 10_000))
    assert (tmp_path / FILE).stat().st_size < 100
    assert remarks(tmp_path) == {"north": []}
