"""A run cannot change its settings, or its classes, under way."""

from pathlib import Path

import numpy as np
import pytest

from fedtransfer.client.consent import pins
from fedtransfer.client.consent.pins import Pins
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire.protocol import Gather, Query, Task

SETTINGS = {"rounds": 3, "strategy": "fedavg"}
QUERY = Query("net", 64, "f" * 64)


def task(*classes: str) -> Task:
    return Task("anna", 1, classes, (np.zeros((2, 2), np.float32),))


def test_settings_are_pinned_by_the_first_message_for_all_later_ones(tmp_path: Path) -> None:
    Pins(tmp_path).hold(7, SETTINGS, QUERY)
    Pins(tmp_path).hold(7, dict(reversed(SETTINGS.items())), task("a", "b"))
    with pytest.raises(SiteError, match="the run's settings are not those of its earlier messages") as caught:
        Pins(tmp_path).hold(7, {**SETTINGS, "rounds": 4}, task("a", "b"))
    assert caught.value.code == "run-changed"
    Pins(tmp_path).hold(8, {**SETTINGS, "rounds": 4}, task("a", "b"))
    Pins(tmp_path).hold(7, SETTINGS, task("a", "b"))


@pytest.mark.parametrize("classes", [("a",), ("b", "a"), ("a", "b", "c"), ("a", "B")])
def test_classes_are_pinned_by_the_first_request_that_names_them(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    Pins(tmp_path).hold(7, SETTINGS, QUERY)
    Pins(tmp_path).hold(7, SETTINGS, Gather("anna", 0, ("a", "b"), "classes"))
    Pins(tmp_path).hold(7, SETTINGS, task("a", "b"))
    with pytest.raises(SiteError, match="the run's classes are not those of its earlier messages"):
        Pins(tmp_path).hold(7, SETTINGS, task(*classes))


def test_pins_of_old_runs_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "RUNS", 3)
    for run in range(10):
        Pins(tmp_path).hold(run, SETTINGS, QUERY)
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(SiteError):
        Pins(tmp_path).hold(9, {}, QUERY)
