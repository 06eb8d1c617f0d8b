"""What is measured is the workload of the rivals' scripts, done by all of them."""

import json
import sys

import numpy as np
import pytest

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.benchmark import speed
from fedtransfer.simulations.benchmark.speed_cli import measure_speed


def test_the_floor_learns_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "WIDTH", 64)
    line = speed.measure_floor(100, 0.0)
    assert line["accuracy"] > 0.5, "a tenth by guessing"


@pytest.mark.run
def test_fedtransfer_does_the_workload_of_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another order of batches, so accuracies agree roughly."""
    monkeypatch.setattr(speed, "WIDTH", 64)
    ours, floor = speed.measure_rounds("plain", 10, 0.0), speed.measure_floor(10, 0.0)
    assert set(ours) == set(floor)
    assert abs(ours["accuracy"] - floor["accuracy"]) < 0.06


def printing(text: str) -> list[str]:
    return [sys.executable, "-c", f"print({text!r})"]


@pytest.mark.process
def test_all_take_turns_and_a_rival_that_fails_is_named() -> None:
    commands = {"a": printing('noise\n{"x": 1}'), "b": printing('{"x": 2}')}
    assert speed.measure_in_turn(commands, 2) == {"a": [{"x": 1}] * 2, "b": [{"x": 2}] * 2}
    for broken, words in {
        "print('fast')": "got exit status 0: ",
        "raise SystemExit('no such thing')": "exit status 1: no such thing",
        "": "it printed nothing",
    }.items():
        with pytest.raises(UserError, match=words) as caught:
            speed.measure_in_turn({"rival": [sys.executable, "-c", broken]}, 1)
        assert str(caught.value).startswith("rival: expected a line of JSON")


def test_rivals_are_named_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--rival: got 'fedjax'; expected NAME=COMMAND"):
        measure_speed("speed", 1, ["fedjax"], json_output=False)
    with pytest.raises(UserError, match="extraction has the compiled Keras loop"):
        measure_speed("extraction", 1, ["a=b"], json_output=False)
    line = {"steady_round_s": 0.5, "total_s": 2.0, "peak_mb": 100}
    fast = {**line, "steady_round_s": 0.25}
    measured = {speed.FLOOR: [line] * 3, "a": [line] * 3, "fedtransfer": [fast] * 3}
    monkeypatch.setattr(speed, "measure_in_turn", lambda commands, repeats: measured)
    measure_speed("speed", 3, ["a=b c"], json_output=False)
    row = next(row for row in capsys.readouterr().out.splitlines() if row.split()[:1] == ["a"])
    assert "0.50 (0.50 to 0.50)" in row, "ours takes half of a's time"
    measure_speed("speed", 3, [], json_output=True)
    assert json.loads(capsys.readouterr().out) == measured


def test_ratios_of_images_are_to_the_loop_of_the_same_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = dict(zip(speed.extraction_commands(), (100, 150, 10, 20), strict=True))
    measured = {system: [{"images_per_s": rate}] for system, rate in rates.items()}
    monkeypatch.setattr(speed, "measure_in_turn", lambda commands, repeats: measured)
    measure_speed("extraction", 1, [], json_output=False)
    shown = [row.split()[-1] for row in capsys.readouterr().out.splitlines() if " px " in row]
    np.testing.assert_array_equal(np.array(shown, float), [1, 1.5, 1, 2])
