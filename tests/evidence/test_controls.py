"""The audit finds what is wrong, and nothing where nothing is. All randomness has a seed."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from evidence import controls
from evidence.controls import CLAIMS, CONTROLS, Control

RIGHT = [control for control in CONTROLS if not control.fault]
BROKEN = [control for control in CONTROLS if control.fault]
EACH_CLAIM = [pytest.param(claim, marks=() if claim == 2 else pytest.mark.full) for claim in CLAIMS]


def name(control: Control) -> str:
    return f"{control.mechanism}: {control.fault or 'right'}"


@pytest.mark.run
@pytest.mark.parametrize("claim", EACH_CLAIM)
@pytest.mark.parametrize("control", RIGHT, ids=name)
def test_right_code_stays_below_its_claim(control: Control, claim: float) -> None:
    """By a margin, and not since the audit sees nothing at all."""
    bounds = [control.audit(claim, seed) for seed in range(3)]
    assert max(bounds) < 0.75 * claim
    assert sum(bounds) / 3 > 0.1 * claim


@pytest.mark.run
@pytest.mark.parametrize("claim", EACH_CLAIM)
@pytest.mark.parametrize("control", BROKEN, ids=name)
def test_broken_code_exceeds_its_claim(control: Control, claim: float) -> None:
    assert control.audit(claim, seed=0) > 1.1 * claim


def test_a_fault_is_gone_after_its_audit() -> None:
    [right] = [control for control in RIGHT if control.mechanism == "DP-FedNCM"]
    before = right.audit(1.0, seed=0)
    for control in BROKEN:
        if control.mechanism == "DP-FedNCM":
            control.audit(1.0, seed=0)
    assert right.audit(1.0, seed=0) == before


def test_the_table_has_a_row_for_each_control_and_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        controls, "CONTROLS", [control for control in CONTROLS if control.mechanism == "DP-FedNCM"]
    )
    monkeypatch.setattr(controls, "SEEDS", {True: range(2), False: range(1)})
    # Faults are the whole process'.
    monkeypatch.setattr(controls, "ProcessPoolExecutor", lambda: ThreadPoolExecutor(1))
    controls.main(tmp_path / "table.csv")
    rows = list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8")))
    assert [(row["fault"], row["claimed_epsilon"]) for row in rows] == [
        (fault, claim) for fault in ("none", "noise off", "clip off") for claim in "124"
    ]
    assert {(row["fault"] == "none", row["runs"]) for row in rows} == {(True, "2"), (False, "1")}
    for row in rows:
        assert float(row["lowest_bound"]) <= float(row["mean_bound"]) <= float(row["highest_bound"])
        assert (float(row["lowest_bound"]) > float(row["claimed_epsilon"])) == (row["fault"] != "none")
