"""The ledger of a run: charged before it is spent, never taken back, and an end to it."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.accounting import Release
from fedtransfer.server.privacy.ledger import FILE, RunLedger


def config(**settings) -> RunConfig:
    given = {"rounds": 20, "noise_multiplier": 1.0, "fraction": 0.2, "sampling": "poisson", **settings}
    return RunConfig(dp="site", weighting="uniform", sites=50, classes="declared", class_names="a,b", **given)


def ledger(folder: Path, **settings) -> RunLedger:
    return RunLedger.from_config(folder, config(**settings))


def test_without_a_promise_there_is_no_ledger(tmp_path: Path) -> None:
    assert RunLedger.from_config(tmp_path, RunConfig()) is None


def test_a_charge_is_on_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    spending = ledger(tmp_path)
    assert spending.epsilon == 0
    spending.charge(1)
    spending.charge(2)
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert synced[-1] == (tmp_path / FILE).stat().st_size
    assert lines[0]["rate"] == 0.2
    assert (
        lines[1]["epsilon"]
        == spending.epsilon
        >= spending.promise.epsilon(2)
        > spending.promise.epsilon(1)
        > 0
    )


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_what_was_charged_stays_so(tmp_path: Path, cut: int) -> None:
    """Also by a line that a kill has cut off: what it pays for may have left."""
    spending = ledger(tmp_path)
    for number in (1, 2, 3):
        spending.charge(number)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) - cut])
    again = ledger(tmp_path)
    assert again.charged == 3
    again.charge(3)
    assert ledger(tmp_path).charged == 4
    assert ledger(tmp_path).epsilon == again.epsilon


def test_the_last_round_is_the_one_before_the_budget_is_exceeded(tmp_path: Path) -> None:
    spending = ledger(tmp_path, epsilon=4.0)
    number = 0
    while spending.affords:
        number += 1
        spending.charge(number)
        assert spending.epsilon <= 4
    assert spending.promise.epsilon(number) <= 4 < spending.promise.epsilon(number + 1)
    assert 1 < number < 20
    with pytest.raises(UserError, match=rf"round 9: .* epsilon 4; {number} are charged"):
        spending.charge(9)
    assert len((tmp_path / FILE).read_text().splitlines()) == number
    assert not ledger(tmp_path, epsilon=4.0).affords


def test_repeated_rounds_come_out_of_a_budget_that_the_noise_was_found_for(tmp_path: Path) -> None:
    spending = ledger(tmp_path, epsilon=2.0, noise_multiplier=0.0)
    for number in range(1, 21):
        assert spending.affords
        spending.charge(number)
    assert not spending.affords
    assert spending.summary(stopped=False)["epsilon"] == pytest.approx(2, rel=0.02)


def test_without_a_budget_there_is_no_end(tmp_path: Path) -> None:
    spending = ledger(tmp_path, rounds=1)
    spending.charge(1)
    spending.charge(1)
    assert spending.affords
    assert spending.epsilon >= spending.promise.epsilon(2)


def test_a_budget_for_no_round_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"epsilon 0.01 .* one round: .* noise multiplier 1 "):
        ledger(tmp_path, epsilon=0.01)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("change", [{"noise_multiplier": 2.0}, {"fraction": 0.3}])
def test_releases_of_another_kind_are_not_added_up(tmp_path: Path, change: dict) -> None:
    ledger(tmp_path).charge(1)
    with pytest.raises(UserError, match=r"rounds were charged as .*, this run would charge .* Resume"):
        ledger(tmp_path, **change)


def test_what_cannot_be_written_is_not_spent(tmp_path: Path) -> None:
    spending = ledger(tmp_path / "gone")
    with pytest.raises(UserError, match="cannot write the privacy ledger: No such file"):
        spending.charge(1)


def test_what_the_summary_says(tmp_path: Path) -> None:
    spending = ledger(tmp_path, epsilon=30.0)
    for number in (1, 2):
        spending.charge(number)
    told = spending.summary(stopped=True)
    assert told["epsilon"] == spending.promise.epsilon(2)
    assert told | {"epsilon": 0, "trust": ""} == {
        "epsilon": 0, "delta": 1e-5, "unit": "site", "neighbours": "add or remove one site",
        "sampling": "Poisson, 0.2", "noise_multiplier": 1.0, "clip": 1.0, "releases": 2,
        "rounds_charged": 2, "budget": 30.0, "stopped_by_budget": True, "trust": "",
    }  # fmt: skip
    assert told["trust"].startswith("the coordinator: ")


def test_an_infinite_epsilon_is_none_in_what_is_written(tmp_path: Path) -> None:
    spending = ledger(tmp_path)
    spending.promise = replace(spending.promise, release=Release(1.0, 1e-200))
    spending.charge(1)
    [line] = (tmp_path / FILE).read_text().splitlines()
    assert json.loads(line)["epsilon"] is None
    assert json.dumps(spending.summary(stopped=False), allow_nan=False)
    assert spending.summary(stopped=False)["epsilon"] is None


# As fedtransfer wrote it when the file was called privacy.jsonl.
OLD_LINES = (
    '{"round": 1, "releases": 1, "rate": 0.2, "noise_multiplier": 1.0, '
    '"discrete": false, "epsilon": 1.7, "delta": 1e-05}\n'
    '{"round": 2, "releases": 1, "rate": 0.2, "noise_mult\n'
)


def test_a_ledger_of_the_old_name_is_never_forgotten(tmp_path: Path) -> None:
    (tmp_path / "privacy.jsonl").write_text(OLD_LINES)
    spending = ledger(tmp_path)
    assert spending.charged == 2
    spending.charge(3)
    assert ledger(tmp_path).charged == 3
    assert not (tmp_path / "privacy.jsonl").exists()
    assert (tmp_path / FILE).read_text().startswith(OLD_LINES)


def test_ledgers_of_both_names_are_refused_with_the_remedy(tmp_path: Path) -> None:
    ledger(tmp_path).charge(1)
    (tmp_path / "privacy.jsonl").write_text(OLD_LINES)
    with pytest.raises(
        UserError, match=r"got privacy\.jsonl and run-privacy\.jsonl; .*Append the lines .* remove"
    ):
        ledger(tmp_path)
    assert RunLedger.from_config(tmp_path, RunConfig()) is None, (
        "a run that promises nothing asks for no ledger"
    )


def test_a_ledger_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(UserError, match="cannot read the privacy ledger: Is a directory"):
        ledger(tmp_path)


def test_a_long_ledger_is_opened_and_charged_in_time_that_grows_with_its_length(tmp_path: Path) -> None:
    """A charge reads the end of the file alone."""
    (tmp_path / FILE).write_text(OLD_LINES[: OLD_LINES.index("\n") + 1] * 50_000)
    spending = ledger(tmp_path)
    assert spending.charged == 50_000
    began = time.process_time()
    for number in range(20):
        spending.charge(number)
    assert time.process_time() - began < 0.5
