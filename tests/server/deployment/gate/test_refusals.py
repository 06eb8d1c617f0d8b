"""The register of refusals: the first is written at once, a flood of them in few lines."""

from pathlib import Path

import pytest

from fedtransfer.server.deployment.gate import refusals
from fedtransfer.server.deployment.gate.refusals import FILE, Register, recent_refusals


def test_a_flood_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = Register(tmp_path)
    for _ in range(1000):
        register.note("eve", "sent too much")
    register.note("", "no key")
    assert len((tmp_path / FILE).read_text().splitlines()) == 2
    assert [(entry["site"], entry["times"]) for entry in recent_refusals(tmp_path)] == [("eve", 1), ("", 1)]
    monkeypatch.setattr(refusals, "PAUSE_SECONDS", 0.0)
    register.note("eve", "sent too much")
    assert {entry["site"]: entry["times"] for entry in recent_refusals(tmp_path)} == {"eve": 1001, "": 1}


def test_a_torn_line_and_an_old_one_are_left_out(tmp_path: Path) -> None:
    register = Register(tmp_path)
    register.note("eve", "sent too much")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"time": 1.0, "site": "eve", "why": "long ago", "times": 3}\n{"time": 1')
    assert [entry["why"] for entry in recent_refusals(tmp_path)] == ["sent too much"]


def test_nothing_was_refused_before_the_first_start(tmp_path: Path) -> None:
    assert recent_refusals(tmp_path) == []
