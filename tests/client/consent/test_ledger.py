"""The site's own record of what its images have been part of."""

import json
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forked
import pytest
from waiting import wait_until

from fedtransfer.client.consent.ledger import SiteLedger, charge_reply, refuse_beyond_budget
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.privacy.accounting import Release, epsilon
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Gather, Task

RELEASE, OTHER = Release(0.05, 1.3), Release(1.0, 0.1 + 0.2, True)
DECLARED = {"classes": "declared", "class_names": "red,green", "weighting": "uniform"}


def asked(number: int, name: str = "") -> Task:
    return Task("the site", number, ("red", "green"), (), run=name)


def run(**settings: object) -> RunConfig:
    return RunConfig(
        **{"dp": "image", "noise_multiplier": 1.0, "local_steps": 5, "rounds": 10, **DECLARED, **settings}
    )


@pytest.fixture
def ledger(tmp_path: Path) -> SiteLedger:
    ledger = SiteLedger(tmp_path / "state" / "site-privacy.jsonl", durable=True)
    ledger.charge("train", "7", 1, RELEASE, 20, 0.5)
    ledger.charge("train", "7", 2, RELEASE, 20, 0.5)
    ledger.charge("train.gather", "8", 0, OTHER, 1, 1.0)
    return ledger


def test_charges_add_up_by_release(ledger: SiteLedger, tmp_path: Path) -> None:
    assert SiteLedger(tmp_path / "none").spent() == {}
    assert ledger.spent() == {RELEASE: 40, OTHER: 1}
    first = json.loads(ledger.path.read_bytes().splitlines()[0])
    assert first.pop("time") > 0
    assert first == {"run": "7", "name": "", "round": 1, "what": "train", "unit": "image", "rate": 0.05,
                     "noise_multiplier": 1.3, "discrete": False, "times": 20, "clip": 0.5}  # fmt: skip


@pytest.mark.parametrize("durable", [True, False])
def test_a_line_of_a_real_site_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    path, synced = tmp_path / "site-privacy.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes().count(b"\n")))
    SiteLedger(path, durable).charge("train", "7", 1, RELEASE, 20, 0.5)
    assert synced == ([1, 1] if durable else []), "the line, and the name of the new file"
    assert SiteLedger(path).spent() == {RELEASE: 20}


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "site-privacy.jsonl").mkdir()
    with pytest.raises(UserError, match=r"site-privacy\.jsonl.* Is a directory"):
        SiteLedger(tmp_path / "site-privacy.jsonl").charge("train", "7", 1, RELEASE, 20, 0.5)


@pytest.mark.process
def test_what_was_charged_stays_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "site-privacy.jsonl"
    program = (
        "import sys; from pathlib import Path; from fedtransfer.client.consent.ledger import SiteLedger\n"
        "from fedtransfer.common.privacy.accounting import Release\n"
        "for i in range(1_000_000):\n"
        "    SiteLedger(Path(sys.argv[1])).charge('train', '7', i, Release(0.05, 1.3), 20, 0.5)\n"
        "    print(i + 1, flush=True)  # this is the reply, which leaves\n"
    )
    replies = tmp_path / "replies"
    process = forked.start("-c", program, str(path), output=replies, modules=forked.COMMAND_LINE)
    wait_until(lambda: replies.read_text().count("\n") >= 50, "50 replies have left", process.died)
    process.kill()
    process.wait()
    left = replies.read_text().count("\n")
    assert left <= SiteLedger(path).spent()[RELEASE] / 20 <= left + 1


@pytest.mark.parametrize(
    "torn", [b'{"time": 1', b'{"time": 1, "rate": 0.05, "noise_m', b"\0" * 300, b"{", b"12", b"[]"]
)
def test_a_line_that_a_power_cut_tore_was_not_spent(ledger: SiteLedger, torn: bytes) -> None:
    """What it was to pay for leaves once the line is on the disk, and so has not."""
    with ledger.path.open("ab") as file:
        file.write(torn)
    assert ledger.spent() == {RELEASE: 40, OTHER: 1}
    ledger.charge("train", "9", 1, RELEASE, 2, 0.5)
    ledger.charge("train", "9", 2, RELEASE, 2, 0.5)
    assert ledger.spent() == {RELEASE: 44, OTHER: 1}
    assert ledger.path.read_bytes().splitlines()[3] == torn + b" torn", "what is written stays"


def test_a_last_line_without_its_newline_was_spent(ledger: SiteLedger) -> None:
    ledger.path.write_bytes(ledger.path.read_bytes()[:-1])
    assert ledger.rounds("8", "") == 1
    assert ledger.spent() == {RELEASE: 40, OTHER: 1}
    ledger.charge("train", "9", 1, RELEASE, 2, 0.5)
    assert ledger.spent() == {RELEASE: 42, OTHER: 1}


@pytest.mark.parametrize("damaged", [b"", b"no JSON", b'{"rate": 1}', b'{"time": 1'])
def test_any_other_damage_stops_what_must_know(ledger: SiteLedger, damaged: bytes) -> None:
    lines = ledger.path.read_bytes().splitlines()
    ledger.path.write_bytes(b"\n".join([lines[0], damaged, lines[2], b""]))
    with pytest.raises(UserError, match=r"site-privacy\.jsonl: line 2 "):
        ledger.spent()


# As fedtransfer wrote it when the file was called privacy.jsonl.
OLD_LINES = (
    b'{"time": 1764000000.5, "run": "7", "name": "", "round": 1, "what": "train", "unit": "image", '
    b'"rate": 0.05, "noise_multiplier": 1.3, "discrete": false, "times": 20, "clip": 0.5}\n'
    b'{"time": 1764000001.5, "run": "7", "name": "", "round": 2, "what": "train", "unit": "image", '
    b'"rate": 0.05, "noise_multiplier": 1.3, "discrete": false, "times": 20, "clip": 0.5}\n'
    b'{"time": 17640 torn\n'
)


@pytest.mark.parametrize("durable", [True, False])
def test_a_ledger_of_the_old_name_is_never_forgotten(tmp_path: Path, durable: bool) -> None:
    (tmp_path / "privacy.jsonl").write_bytes(OLD_LINES)
    ledger = SiteLedger.open(tmp_path, durable=durable)
    assert ledger.spent() == {RELEASE: 40}
    assert ledger.rounds("7", "") == 2
    ledger.charge("train", "8", 1, RELEASE, 20, 0.5)
    assert SiteLedger.open(tmp_path).spent() == {RELEASE: 60}
    assert not (tmp_path / "privacy.jsonl").exists()
    assert (tmp_path / "site-privacy.jsonl").read_bytes().startswith(OLD_LINES)


def test_several_that_open_a_ledger_of_the_old_name_at_once_lose_no_charge(tmp_path: Path) -> None:
    (tmp_path / "privacy.jsonl").write_bytes(OLD_LINES)
    with ThreadPoolExecutor(8) as pool:
        opened = pool.map(
            lambda number: SiteLedger.open(tmp_path).charge("train", "8", number, RELEASE, 20, 0.5), range(16)
        )
        assert len(list(opened)) == 16
    assert SiteLedger.open(tmp_path).spent() == {RELEASE: 40 + 16 * 20}


def test_ledgers_of_both_names_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "privacy.jsonl").write_bytes(OLD_LINES)
    SiteLedger(tmp_path / "site-privacy.jsonl").charge("train", "8", 1, RELEASE, 20, 0.5)
    with pytest.raises(
        UserError, match=r"got privacy\.jsonl and site-privacy\.jsonl; .*Append the lines .* remove"
    ):
        SiteLedger.open(tmp_path)
    with (tmp_path / "site-privacy.jsonl").open("ab") as file:
        file.write(OLD_LINES)
    (tmp_path / "privacy.jsonl").unlink()
    assert SiteLedger.open(tmp_path).spent() == {RELEASE: 60}


def test_replies_that_tell_of_images_are_charged(ledger: SiteLedger) -> None:
    ledger.path.unlink()
    for config in (run(), RunConfig(), run(dp="site", local_steps=0)):
        for number, kind in enumerate(protocol.KINDS):
            charge_reply(ledger, config, kind, "7", asked(number))
    assert [line["what"] for line in ledger.charges()] == [protocol.TRAIN, protocol.GATHER]
    assert ledger.spent() == {Release(0.05, 1.0): 10}
    one_shot = run(strategy="fedncm", local_steps=0, weighting="examples", noise_multiplier=4.0)
    charge_reply(
        ledger, one_shot, protocol.GATHER, "8", Gather("the site", 0, ("red", "green"), "noisy classes")
    )
    assert ledger.spent() == {Release(0.05, 1.0): 10, Release(1.0, 4.0): 1}


def test_a_run_has_no_more_rounds_than_its_promise_is_for(tmp_path: Path) -> None:
    """Whatever they are called: a round done again, another Flower run or other name within one."""
    ledger, config = SiteLedger(tmp_path / "site-privacy.jsonl"), run(rounds=3)
    for flower, request in (("7", asked(1, "aa" * 8)), ("7", asked(1, "bb" * 8)), ("8", asked(2, "aa" * 8))):
        charge_reply(ledger, config, protocol.TRAIN, flower, request)
    charge_reply(ledger, config, protocol.TRAIN, "7", asked(2))
    for flower, name in (("7", "cc" * 8), ("9", "aa" * 8)):
        if name == "aa" * 8:
            charge_reply(ledger, config, protocol.TRAIN, flower, asked(3, name))
        with pytest.raises(SiteError, match=" 3 noisy answers") as caught:
            charge_reply(ledger, config, protocol.TRAIN, flower, asked(3, name))
        assert caught.value.code == "promise-spent"
    assert ledger.spent() == {Release(0.05, 1.0): 25}, "a refusal is not charged"
    charge_reply(ledger, config, protocol.TRAIN, "10", asked(1))


def test_a_run_with_a_budget_has_the_rounds_that_it_affords(tmp_path: Path) -> None:
    ledger = SiteLedger(tmp_path / "site-privacy.jsonl")
    config = run(epsilon=epsilon({Release(0.05, 1.0): 10}, 1e-5) + 1e-4)
    for number in (1, 2):
        charge_reply(ledger, config, protocol.TRAIN, "7", asked(number))
    with pytest.raises(SiteError, match=" 2 noisy answers"):
        charge_reply(ledger, config, protocol.TRAIN, "7", asked(3))


def test_shares_of_noise_that_protect_sites_are_charged_to_the_site(tmp_path: Path) -> None:
    ledger = SiteLedger(tmp_path / "site-privacy.jsonl")
    config = run(dp="site", noise="shared", masks=True, min_sites=3, local_steps=0, rounds=2)
    for number in (1, 2):
        charge_reply(ledger, config, protocol.TRAIN, "7", asked(number))
    assert [(line["unit"], line["discrete"], line["times"]) for line in ledger.charges()] == [
        ("site", True, 1)
    ] * 2
    assert ledger.spent() == {}, "of images nothing is said"
    with pytest.raises(SiteError, match=" 2 noisy answers"):
        charge_reply(ledger, config, protocol.TRAIN, "7", asked(1))


def refusal(
    ledger: SiteLedger, bound: float, config: RunConfig, kind: str = protocol.QUERY
) -> SiteError | None:
    try:
        refuse_beyond_budget(ledger, bound, 1e-5, config, kind)
    except SiteError as error:
        return error
    return None


def test_a_run_that_would_spend_too_much_is_refused_at_the_query(tmp_path: Path) -> None:
    ledger = SiteLedger(tmp_path / "site-privacy.jsonl")
    whole = epsilon({Release(0.05, 1.0): 50}, 1e-5)
    assert refusal(ledger, whole + 1e-3, run()) is None
    told = refusal(ledger, whole - 1e-3, run())
    assert told is not None
    assert told.code == "budget-spent"
    assert re.search(f"epsilon {whole - 1e-3:g} at delta 1e-05 .* {whole:.3g}.* {whole:.3g} ", told.text)
    assert not ledger.path.exists(), "to be asked costs nothing"


def test_what_went_before_counts(tmp_path: Path) -> None:
    ledger, config = SiteLedger(tmp_path / "site-privacy.jsonl"), run()
    both = epsilon({Release(0.05, 1.0): 50, Release(1.0, 4.0): 1}, 1e-5)
    assert refusal(ledger, both - 1e-3, config) is None
    ledger.charge("train.gather", "1", 0, Release(1.0, 4.0), 1, 1.0)
    assert refusal(ledger, both + 1e-3, config) is None
    told = refusal(ledger, both - 1e-3, config)
    assert told is not None
    assert f" {both:.3g} " in told.text


def test_each_round_is_refused_that_would_spend_too_much(tmp_path: Path) -> None:
    """Whatever the server said of rounds: it may send more of them, or go on with an old run."""
    ledger, config = SiteLedger(tmp_path / "site-privacy.jsonl"), run()
    bound = epsilon({Release(0.05, 1.0): 30}, 1e-5) + 1e-4
    assert refusal(ledger, bound, config) is not None
    assert refusal(ledger, bound, config.model_copy(update={"resume": True})) is None
    for number in range(6):
        assert refusal(ledger, bound, config, protocol.TRAIN) is None
        charge_reply(ledger, config, protocol.TRAIN, "7", asked(number))
    for kind in (protocol.TRAIN, protocol.GATHER):
        told = refusal(ledger, bound, config, kind)
        assert told is not None
        assert told.code == "budget-spent"
    for kind in (protocol.EVALUATE, protocol.FINISH):
        assert refusal(ledger, bound, config, kind) is None, (
            "the head that it helped to make is the site's too"
        )


@pytest.mark.parametrize("config", [RunConfig(), run(dp="site", local_steps=0)])
def test_a_bound_is_kept_by_no_run_without_noise_at_the_site(tmp_path: Path, config: RunConfig) -> None:
    told = refusal(SiteLedger(tmp_path / "none"), 5.0, config, protocol.TRAIN)
    assert told is not None
    assert told.code == "budget-spent"
    assert re.search("epsilon 5 at delta 1e-05 .*--dp image", told.text)


def test_without_a_bound_nothing_is_read_or_computed(
    ledger: SiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedtransfer.client.consent.ledger.epsilon", None)
    monkeypatch.setattr("fedtransfer.client.consent.ledger.guarantee", None)
    ledger.path.write_bytes(b"no JSON\n")
    for kind in protocol.KINDS:
        assert refusal(ledger, math.inf, run(), kind) is None


def test_a_damaged_record_stops_a_run_where_there_is_a_bound(ledger: SiteLedger) -> None:
    ledger.path.write_bytes(b"no JSON\n")
    with pytest.raises(UserError, match="line 1 "):
        refusal(ledger, 100.0, run())
