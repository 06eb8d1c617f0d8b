"""Rounds with differential privacy: what moves the head, what is charged, what nobody is told."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, Stopped, assert_same, three_sites

from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.privacy.gaussian import clipped
from fedtransfer.common.wire.protocol import Scores, Tally, Task, Trial, Update
from fedtransfer.server.callbacks.json_log import JsonLog
from fedtransfer.server.callbacks.tables import Tables, read_history
from fedtransfer.server.callbacks.tensorboard import TensorBoard
from fedtransfer.server.privacy.ledger import FILE
from fedtransfer.server.sites.exchange import carried

DATA = three_sites()
NAMES = sorted(DATA)
COMMON = {"weighting": "uniform", "classes": "declared", "class_names": "a,b,c"}
SITE = {**COMMON, "dp": "site", "noise_multiplier": 5.0, "clip": 0.5}
IMAGE = {**COMMON, "dp": "image", "noise_multiplier": 5.0, "image_rate": 0.5}
SAMPLED = {"sampling": "poisson", "fraction": 0.5}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def updates(run: Drawn, round: int = 1) -> dict[str, Update]:
    return {site: value for site, value in run.answered if isinstance(value, Update) and value.round == round}


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


def test_a_round_is_the_noisy_sum_over_a_fixed_number(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(rng=rng(4), rounds=1, **SITE)
    draws = rng(4)
    draws.random(3)  # the cohort
    total = [clipped(update.total, 0.5) for _, update in sorted(updates(run).items())]
    assert min(np.linalg.norm(update.total[0]) for update in updates(run).values()) > 0.5, (
        "else nothing is clipped"
    )
    for i, array in enumerate(outcome.best.head):
        noisy = sum(arrays[i] for arrays in total) + 5.0 * 0.5 * draws.standard_normal(array.shape)
        np.testing.assert_allclose(array, noisy / 3, rtol=1e-5, atol=1e-6)


def test_a_dropout_takes_its_clipped_update_and_nothing_else(tmp_path: Path) -> None:
    def carl_is_out(site, request, value):
        if site == "carl" and isinstance(value, Update):
            raise SiteError("tired", "no more today")
        return value

    whole, without = Drawn(DATA, tmp_path / "a"), Drawn(DATA, tmp_path / "b", carl_is_out)
    heads = [run.run(rng=rng(), rounds=1, **SITE).best.head for run in (whole, without)]
    carl = clipped(updates(whole)["carl"].total, 0.5)
    for one, other, part in zip(*heads, carl, strict=True):
        np.testing.assert_allclose(one.astype(np.float64) - other, part / 3, atol=1e-6)


@pytest.mark.parametrize("size", [1e6, np.nan])
def test_a_wild_update_moves_the_head_by_no_more_than_its_share(tmp_path: Path, size: float) -> None:
    def wild(site, request, value):
        if site == "bert" and isinstance(value, Update):
            return replace(value, total=tuple(array * np.float32(size) for array in value.total))
        return value

    def bert_is_out(site, request, value):
        if site == "bert" and isinstance(value, Update):
            raise SiteError("tired", "no more today")
        return value

    heads = [
        Drawn(DATA, tmp_path / str(i), how).run(rng=rng(), rounds=1, **SITE).best.head
        for i, how in enumerate((wild, bert_is_out))
    ]
    moved = math.sqrt(sum(((a.astype(np.float64) - b) ** 2).sum() for a, b in zip(*heads, strict=True)))
    assert moved <= 0.5 / 3 * (1 + 1e-4)
    assert (moved > 0) == (size == 1e6)


def test_an_empty_cohort_releases_noise_and_asks_nobody(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(rng=rng(3), rounds=2, **SITE, sampling="poisson", fraction=1e-3)
    assert not updates(run)
    assert outcome.progress.round == 2
    draws = rng(3)
    expected = [np.zeros(array.shape) for array in outcome.best.head]
    for _ in range(2):
        draws.random(3)
        expected = [array + 2.5 * draws.standard_normal(array.shape) / 3e-3 for array in expected]
    for array, wanted in zip(outcome.best.head, expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-3)


def test_runs_repeat_with_a_generator_of_ones_own_only(tmp_path: Path) -> None:
    settings = {**SITE, **SAMPLED, "rounds": 4}
    one, two, three, four = (
        Drawn(DATA, tmp_path / str(i)).run(rng=draws, **settings).best.head
        for i, draws in enumerate((rng(1), rng(1), None, None))
    )
    assert_same(one, two)
    assert not np.array_equal(three[0], four[0])


def test_cohorts_are_drawn_by_the_secret_generator_each_site_by_itself(tmp_path: Path) -> None:
    run, draws = Drawn(DATA, tmp_path), rng(11)
    outcome = run.run(rng=rng(11), rounds=12, **SITE, **SAMPLED)
    for number in range(1, 13):
        assert set(updates(run, number)) == {
            name for name, draw in zip(NAMES, draws.random(3), strict=True) if draw < 0.5
        }
        for array in outcome.best.head:
            draws.standard_normal(array.shape)
    assert {len(updates(run, number)) for number in range(1, 13)} > {0, 2}


def test_nobody_is_told_who_was_in_a_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def flaky(site, request, value):
        if isinstance(value, Update) and value.round % 2:
            raise SiteError("tired", "no more today")
        return value

    run = Drawn(DATA, tmp_path, flaky)
    log = JsonLog(str(tmp_path / "log.jsonl"))
    outcome = run.run(Tables(), log, TensorBoard(), rng=rng(11), rounds=12, **SITE, **SAMPLED)
    trained = [record for record in run.records if record.phase == "train"]
    assert len(trained) == 12
    for record in trained:
        assert record.secret
        assert (record.planned, record.answers, record.refused, record.set_aside) == ((), {}, {}, {})
        assert "sites" not in record.scalars
    assert len({(record.bytes_down, record.bytes_up) for record in trained[:9]}) == 1, (
        "of empty cohorts as well"
    )
    sizes = [update.total[0].nbytes for site in NAMES for update in updates(run, 2).values()]
    assert trained[0].bytes_up > max(sizes)
    assert "left out" not in caplog.text, "a log that names a site tells that it was drawn"
    assert all(math.isnan(record.seconds) for record in trained), (
        "how long a round took tells how many it had"
    )
    for row in read_history(tmp_path):
        assert row["phase"] != "train" or not row["seconds"]
        assert (row["sites_planned"], row["sites_present"], row["sites_set_aside"]) == ("", "", "")
    events = (tmp_path / "log.jsonl").read_text().splitlines()
    (tmp_path / "log.jsonl").write_text("\n".join(line for line in events if '"event": "start"' not in line))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"history.csv", "sites.csv", FILE, "log.jsonl"} <= {path.name for path in files}
    assert any("tfevents" in path.name for path in files)
    assert any(path.parent.name == "checkpoints" for path in files)
    for path in files:
        assert not any(name.encode() in path.read_bytes() for name in NAMES), path
    assert outcome.progress.failure_record.failures == {}


def test_what_is_told_of_messages_is_what_they_carry(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    run.run(rng=rng(), rounds=1, **SITE)
    [task, update] = run.requests(Task)[0], replace(updates(run)["anna"], examples=1)
    assert run.records[0].bytes_down == carried(task, "train")
    assert run.records[0].bytes_up == carried(update, "train")


def test_a_round_is_charged_before_it_is_asked_for_and_never_again_given_back(tmp_path: Path) -> None:
    seen = []

    def note(site, request, value):
        if isinstance(value, Update):
            seen.append(len(lines(tmp_path)))
        return value

    run = Drawn(DATA, tmp_path, note)
    with pytest.raises(Stopped):
        run.run(Tables(), rng=rng(1), rounds=4, stop_after=2, **SITE)
    assert seen == [1] * 3 + [2] * 3 + [3] * 3
    before = run.requests(Task)[-1].head
    (tmp_path / FILE).rename(tmp_path / "privacy.jsonl")  # as earlier versions called it
    outcome = run.run(Tables(), rng=rng(2), rounds=4, resume=True, **SITE)
    assert [row["round"] for row in read_history(tmp_path)] == ["1", "2", "3", "4"]
    assert [line["round"] for line in lines(tmp_path)] == [1, 2, 3, 3, 4]
    assert outcome.privacy["rounds_charged"] == outcome.privacy["releases"] == 5
    again = next(task for task in run.requests(Task)[9:] if task.round == 3)
    assert_same(before, again.head)
    assert outcome.privacy["epsilon"] > run.records[0].epsilon > 0
    fourth = [task.head for task in run.requests(Task) if task.round == 4]
    assert not np.array_equal(fourth[0][0], before[0])
    with pytest.raises(UserError, match=r"noise-multiplier was 5\.0 and is 6\.0|were charged as"):
        run.run(rounds=6, resume=True, **SITE | {"noise_multiplier": 6.0})


def test_a_repeated_round_has_other_noise(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Drawn(DATA, tmp_path / "a").run(rounds=2, stop_after=1, **SITE)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    runs = [Drawn(DATA, tmp_path / name) for name in "ab"]
    heads = [run.run(rounds=2, resume=True, **SITE).best.head for run in runs]
    assert_same(*(run.requests(Task)[0].head for run in runs))
    assert not np.array_equal(heads[0][0], heads[1][0])


def test_rounds_may_change_on_resumption_unless_the_noise_was_found_for_them(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path / "a")
    run.run(rounds=2, **SITE)
    assert run.run(rounds=3, resume=True, **SITE).progress.round == 3
    found = {**SITE, "noise_multiplier": 0.0, "epsilon": 2.0}
    run = Drawn(DATA, tmp_path / "b")
    run.run(rounds=2, **found)
    with pytest.raises(UserError, match=r"rounds was 2 and is 3|were charged as"):
        run.run(rounds=3, resume=True, **found)


def test_the_budget_ends_a_run_that_keeps_what_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(Tables(), rounds=50, epsilon=2.0, **SITE)
    told = outcome.privacy
    assert told["stopped_by_budget"]
    assert 1 < outcome.progress.round == told["rounds_charged"] < 50
    assert told["epsilon"] <= 2.0
    assert outcome.best.head is outcome.progress.state.head
    words = (
        f"the run stops after round {outcome.progress.round} of 50: one more would spend more than epsilon 2"
    )
    assert words in caplog.text
    assert set(outcome.confusion) == set(DATA), "the head is delivered"
    spent = [float(row["epsilon"]) for row in read_history(tmp_path)]
    assert spent == sorted(spent)
    assert told["epsilon"] * (1 - 1e-5) <= spent[-1] <= 2.0


def test_sites_say_nothing_in_the_end_and_the_last_head_is_kept(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(rng=rng(), rounds=3, **SITE)
    assert outcome.best.round == 4
    assert outcome.best.head is outcome.progress.state.head
    assert not [value for _, value in run.answered if isinstance(value, Tally)]
    assert not run.requests(Trial)
    scores = [value for _, value in run.answered if isinstance(value, Scores)]
    assert all(score.validation.total == score.test.total == 0 for score in scores)
    run = Drawn(DATA, tmp_path / "reptile")
    run.run(rounds=1, **{**SITE, "weighting": "examples", "strategy": "reptile", "server_learning_rate": 0.5})
    assert {request.round for request in run.requests(Task)} == {1, 2}, "no personal heads"


def test_with_noise_at_the_sites_whoever_answers_is_averaged_once(tmp_path: Path) -> None:
    asked = []

    def out(site, request, value):
        if isinstance(value, Update):
            asked.append((request.round, site))
            if (site != "anna" and value.round == 1) or value.round == 2:
                raise SiteError("tired", "no more today")
        return value

    run = Drawn(DATA, tmp_path, out)
    outcome = run.run(rounds=2, **IMAGE)
    assert sorted(asked) == [(number, name) for number in (1, 2) for name in NAMES], "nobody is asked twice"
    assert_same(outcome.best.head, updates(run)["anna"].total)
    assert outcome.progress.round == 2, "a round without any answer changes nothing, and counts"
    assert [set(record.answers) for record in run.records] == [{"anna"}, set()]
    assert [record.failure for record in run.records] == ["", ""]
    assert [line["round"] for line in lines(tmp_path)] == [1, 2]
    assert outcome.privacy["releases"] == 2 * run.config(**IMAGE).private_steps == 4
    assert outcome.privacy["trust"].startswith("the image's own site alone")
