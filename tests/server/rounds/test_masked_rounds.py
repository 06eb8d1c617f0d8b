"""Masked rounds in process: totals, dropouts at every stage, and whole runs of all methods."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_sites import Drawn, Stopped, assert_same, draw, hanging, three_sites

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.head.head import initial_head, load_head
from fedtransfer.common.masks.graph import graph, least_sites
from fedtransfer.common.masks.messages import Invitation, Masked, Peers, PublicKeys, Survivors, Unmasking
from fedtransfer.common.masks.vector import COARSE, rounding_error
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import (
    Confusion,
    Gather,
    Personal,
    Query,
    Request,
    Sums,
    Task,
    Trial,
    Update,
)
from fedtransfer.server.callbacks.tables import Tables
from fedtransfer.server.sites.admission import Answers, Terms
from fedtransfer.server.sites.federation import join
from fedtransfer.server.sites.messenger import Messenger

DECLARED = {"masks": True, "classes": "declared", "class_names": "a,b,c"}
STAGES: dict[str, type[Any]] = {
    "keys": Invitation, "shares": Peers, "answer": Request, "survivors": Survivors, "unmask": Unmasking,
}  # fmt: skip
ANSWERS = {"fedavg": Update, "fedncm": Sums, "fed3r": Sums}


def many(sites: int) -> dict:
    """Small sites of different sizes."""
    return {
        f"site-{k:03}": {
            "train": draw(k, 4 + k % 5),
            "validation": draw(500 + k, 3),
            "test": draw(900 + k, 3),
        }
        for k in range(sites)
    }


def dropping(stage: str, number: int) -> Callable[[str, Any, Any], Any]:
    """The last ``number`` sites do what they are asked, and their answer of one stage is lost."""

    def misbehave(site: str, request: Any, value: Any) -> Any:
        last = int(site.removeprefix("site-")) >= misbehave.sites - number  # type: ignore[attr-defined]
        if last and isinstance(request, STAGES[stage]) and not isinstance(request, Query):
            raise SiteError("tired", "not now")
        return value

    return misbehave


def total_of(run: Drawn, method: str, **settings: Any) -> Answers:
    """Ask the sites of a run once, as a round of ``method`` would."""
    config = run.config(strategy=method, **DECLARED, **settings)
    backbone, asked = configured_backbone(config), []

    def main(grid: Any) -> None:
        federation = join(grid, config, backbone)
        terms = Terms.from_config(config, backbone, federation.classes, {})
        messenger = Messenger(grid, config, federation, terms, run.folder, [])
        if method == "fedavg":
            head = initial_head(terms.spec("head"), 0)
            make: Callable[[str], Request] = lambda site: Task(site, 1, terms.classes, head, run="0" * 16)  # noqa: E731
            kind, answer = protocol.TRAIN, Update
        else:
            what = {"fedncm": "classes", "fed3r": "gram"}[method]
            make = lambda site: Gather(site, 0, terms.classes, what)  # noqa: E731
            kind, answer = protocol.GATHER, Sums
        number = 1 if method == "fedavg" else 0
        asked.append(messenger.ask(kind, answer, number, {site: make(site) for site in federation.trainers}))

    run.serve(main, config)
    return asked[0]


def most(sites: int, stage: str) -> int:
    """How many sites may fail at a stage, for sure."""
    numbers = graph(sites, Drawn(many(1), Path()).config(sites=sites, **DECLARED))
    least = max(numbers.least, least_sites(sites, Drawn(many(1), Path()).config(sites=sites, **DECLARED)))
    complete = numbers.neighbours == sites - 1
    if stage == "survivors" and complete:  # of those who agree, each has t neighbours who do
        least = max(numbers.quorum, numbers.threshold + 1)
    if stage == "unmask" and complete:
        least = numbers.threshold + 1
    return sites - least


def assert_sum_of(asked: Answers, run: Drawn, survivors: list[str], sites: int) -> None:
    """The total is the plain sum over just the survivors, within the stated bound."""
    assert not asked.failure
    assert sorted(asked.admitted) == survivors
    assert all(isinstance(answer, Masked) for answer in asked.admitted.values())
    sent = dict(run.answers)
    plain = [sent[site] for site in survivors]
    total = asked.total
    assert total.examples == sum(answer.examples for answer in plain)
    arrays = "total" if isinstance(total, Update) else "arrays"
    for j, array in enumerate(getattr(total, arrays)):
        expected = np.sum([getattr(answer, arrays)[j].astype(np.longdouble) for answer in plain], axis=0)
        assert abs(array - expected).max() < rounding_error(sites) + 1e-12
        assert abs(array).max() > 0.1, "there is something to be wrong in"
    if isinstance(total, Update):
        for split in ("validation", "test"):
            one, others = getattr(total, split), [getattr(answer, split) for answer in plain]
            np.testing.assert_array_equal(one.images, sum(other.images for other in others))
            np.testing.assert_array_equal(one.correct, sum(other.correct for other in others))
            assert abs(one.loss - sum(other.loss for other in others)) < rounding_error(sites, COARSE)


def drop_and_check(tmp_path: Path, method: str, sites: int, stage: str, number: int) -> None:
    misbehave = dropping(stage, number)
    misbehave.sites = sites  # type: ignore[attr-defined]
    run = Drawn(many(sites), tmp_path, misbehave)
    asked = total_of(run, method)
    left = sorted(run.data)[: sites - number] if stage in ("keys", "shares", "answer") else sorted(run.data)
    assert_sum_of(asked, run, left, sites)
    gone = sorted(run.data)[sites - number :] if len(left) < sites else []
    assert asked.refused == dict.fromkeys(gone, "tired: not now")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("sites", [5, pytest.param(20, marks=pytest.mark.run)])
@pytest.mark.parametrize("method", ANSWERS)
def test_totals_are_plain_sums_of_those_who_remain(
    tmp_path: Path, method: str, sites: int, stage: str
) -> None:
    for number in dict.fromkeys((0, 1, most(sites, stage))):
        if number or stage == "keys":
            drop_and_check(tmp_path, method, sites, stage, number)


# Beyond 32 sites the graph is sparse: it knows neither the method nor what is added up.
SPARSE = {"keys": "fedncm", "shares": "fed3r", "answer": "fedavg", "survivors": "fed3r", "unmask": "fedavg"}


def drop_from_sparse(tmp_path: Path, method: str, sites: int, stage: str, number: int) -> None:
    assert graph(sites, Drawn(many(1), Path()).config(sites=sites, **DECLARED)).neighbours < sites - 1
    drop_and_check(tmp_path, method, sites, stage, number)


@pytest.mark.run
@pytest.mark.parametrize("stage", STAGES)
def test_totals_where_not_all_share_masks_with_all(tmp_path: Path, stage: str) -> None:
    drop_from_sparse(tmp_path, SPARSE[stage], 40, stage, most(40, stage))


@pytest.mark.run
@pytest.mark.full
@pytest.mark.parametrize("stage", STAGES)
def test_totals_of_100_sites_with_the_most_dropouts(tmp_path: Path, stage: str) -> None:
    assert most(100, stage) == 33
    drop_from_sparse(tmp_path, SPARSE[stage], 100, stage, 33)


@pytest.mark.run
@pytest.mark.full
@pytest.mark.parametrize(("stage", "number"), [("keys", 0), ("answer", 1)])
def test_totals_of_100_sites(tmp_path: Path, stage: str, number: int) -> None:
    drop_from_sparse(tmp_path, "fedavg", 100, stage, number)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The head of a masked round of eight sites."""
    return Drawn(many(8), tmp_path_factory.mktemp("undisturbed")).run(rounds=1, **DECLARED).best.head


FAILURES = {
    "keys": r"5 of 8 .*keys.* 6 are",
    "shares": r"5 of 8 .*shared.* 6 are",
    "answer": r"5 of 8 .*answered.* 6 are",
    "survivors": r"4 of 8 .*agreed.* 5 are",
    "unmask": r"site-000 .* 3 of .* 4 are",
}


@pytest.mark.parametrize(
    "stage",
    [pytest.param(name, marks=[] if name in ("keys", "unmask") else [pytest.mark.run]) for name in STAGES],
)
def test_one_dropout_more_than_allowed_is_tried_again_and_said_so(
    tmp_path: Path, undisturbed: Any, stage: str
) -> None:
    number, failed = most(8, stage) + 1, []

    def misbehave(site: str, request: Any, value: Any) -> Any:
        wanted = isinstance(request, STAGES[stage]) and not isinstance(request, Trial)
        if wanted and len(failed) < number and int(site[-3:]) >= 8 - number:
            failed.append(site)
            raise SiteError("tired", "not now")
        return value

    run = Drawn(many(8), tmp_path, misbehave)
    outcome = run.run(Tables(), rounds=1, **DECLARED)
    first, second = (record for record in run.records if record.phase == "train")
    assert first.attempt == 1
    assert re.search(FAILURES[stage], first.failure)
    assert set(first.refused) == set(failed), "who was missing is in the history"
    assert not set(first.refused) & set(first.answers)
    assert (second.attempt, second.failure, len(second.answers)) == (2, "", 8)
    assert_close(outcome.best.head, undisturbed)
    with (tmp_path / "history.csv").open() as file:
        rows = [(row["attempt"], row["status"]) for row in csv.DictReader(file) if row["phase"] == "train"]
    assert rows == [("1", first.failure), ("2", "ok")]


def test_a_run_whose_totals_never_come_stops_with_the_reason(tmp_path: Path) -> None:
    misbehave = dropping("unmask", 3)
    misbehave.sites = 5  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"round 1: .*site-000 .* 1 of .* 3 are .*tried 2 times"):
        Drawn(many(5), tmp_path, misbehave).run(rounds=1, round_retries=1, **DECLARED)


def test_keys_are_new_in_each_attempt(tmp_path: Path) -> None:
    run = Drawn(many(5), tmp_path)
    run.run(rounds=3, **DECLARED)
    keys = [key for _, value in run.answered if hasattr(value, "mask") for key in (value.mask, value.box)]
    assert len(keys) == len(set(keys)) == 5 * 2 * len({request.nonce for request in run.requests(Invitation)})


def test_no_site_tells_anything_outside_its_masks(tmp_path: Path) -> None:
    run = Drawn(many(5), tmp_path)
    run.run(rounds=2, strategy="reptile", init="fed3r", standardise="federated", **DECLARED)
    told = {type(value) for _, value in run.answered}
    assert not told & {Update, Sums, Confusion, Personal}
    assert Masked in told
    descriptions = [value for _, value in run.answered if hasattr(value, "unreadable")]
    assert all(not description.images for description in descriptions)


def assert_close(one: Any, other: Any, tolerance: float = 2e-6) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


METHODS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "uniform": {"weighting": "uniform"},
    "scaffold": {"strategy": "scaffold"},
    "reptile": {"strategy": "reptile", "personal_epochs": 1},
    "fedadam": {"strategy": "fedadam", "server_learning_rate": 0.1},
    "begins at fed3r": {"init": "fed3r"},
    "federated statistics": {"standardise": "federated"},
    "personal": {"personal_epochs": 2},
    "cohorts": {"fraction": 0.8},
    "fedncm": {"strategy": "fedncm"},
    "fed3r": {"strategy": "fed3r"},
    "lda": {"strategy": "fed3r", "lda": True},
}


QUICK = ("fedavg", "fedncm")


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.run]) for name in METHODS]
)
def test_a_masked_run_ends_where_a_plain_one_does(tmp_path: Path, method: str) -> None:
    settings = {**METHODS[method], "classes": "declared", "class_names": "a,b,c"}
    plain, masked = (Drawn(many(5), tmp_path / name) for name in ("plain", "masked"))
    expected, outcome = plain.run(**settings), masked.run(masks=True, **settings)
    assert_close(outcome.progress.state.head, expected.progress.state.head, 1e-4)
    assert_close(outcome.best.head, expected.best.head, 1e-4)
    assert outcome.best.round == expected.best.round
    assert outcome.progress.one_shot == expected.progress.one_shot
    for name, arrays in expected.progress.arrays.items():
        assert_close(outcome.progress.arrays[name], arrays, 1e-4)
    for name, arrays in expected.progress.state.slots.items():
        assert_close(outcome.progress.state.slots[name], arrays, 1e-4)
    for one, other in zip(masked.records, plain.records, strict=True):
        assert one.test.total == other.test.total
        assert one.test.correct.sum() == other.test.correct.sum()
    assert outcome.total is not None
    np.testing.assert_array_equal(
        outcome.total.matrix, sum(scores.matrix for scores in expected.confusion.values())
    )
    assert outcome.undelivered == {}
    for kind in ("global", "local", "fine_tuned", "mixed") if outcome.personal else ():
        assert outcome.personal[kind]["pooled"] == expected.personal[kind]["pooled"]
        assert np.isnan(outcome.personal[kind]["worst"])
    if outcome.personal:
        assert outcome.personal["share"] == pytest.approx(expected.personal["share"])


@pytest.mark.run
def test_a_masked_run_is_resumed(tmp_path: Path) -> None:
    undisturbed = Drawn(many(5), tmp_path / "undisturbed").run(strategy="scaffold", **DECLARED)
    run = Drawn(many(5), tmp_path / "run")
    with pytest.raises(Stopped):
        run.run(stop_after=1, strategy="scaffold", **DECLARED)
    outcome = run.run(resume=True, strategy="scaffold", **DECLARED)
    assert_close(outcome.progress.state.head, undisturbed.progress.state.head, 1e-5)
    assert_close(outcome.progress.state.slots["control"], undisturbed.progress.state.slots["control"], 1e-5)


def test_the_result_reaches_all_sites_also_when_their_counts_have_no_total(tmp_path: Path) -> None:
    refusals: list[str] = []

    def misbehave(site: str, request: Any, value: Any) -> Any:
        if (
            isinstance(request, Unmasking)
            and request.kind == protocol.FINISH
            and site in ("site-000", "site-001", "site-002")
        ):
            refusals.append(site)
            raise SiteError("tired", "not now")
        return value

    run = Drawn(many(5), tmp_path, misbehave)
    outcome = run.run(rounds=1, **DECLARED)
    assert refusals
    assert outcome.total is None
    assert outcome.undelivered == {}
    for site in run.data:
        assert_same(load_head(tmp_path / site / "head.npz")[0], outcome.best.head)


def test_a_site_that_fails_before_the_result_gets_it_without_masks(tmp_path: Path) -> None:
    def misbehave(site: str, request: Any, value: Any) -> Any:
        if isinstance(request, Invitation) and request.kind == protocol.FINISH and site == "site-004":
            raise SiteError("tired", "not now")
        return value

    run = Drawn(many(5), tmp_path, misbehave)
    outcome = run.run(rounds=1, **DECLARED)
    assert outcome.total is not None
    assert outcome.total.test.total == 4 * 3
    assert outcome.undelivered == {}
    assert (tmp_path / "site-004" / "head.npz").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda told: Masked(told.round, told.fingerprint, told.classes, told.vector[:-1]),
            "the wrong shape",
        ),
        (
            lambda told: Masked(told.round, told.fingerprint, told.classes, told.vector.view(np.int64)),
            "the wrong shape",
        ),
        (
            lambda told: Masked(9, told.fingerprint, told.classes, told.vector),
            "answered round 9, expected round 1",
        ),
        (lambda told: Masked(told.round, "0" * 64, told.classes, told.vector), "used backbone 0000"),
        (
            lambda told: Masked(told.round, told.fingerprint, "0" * 16, told.vector),
            "another list of class names",
        ),
    ],
)
def test_masked_answers_that_do_not_fit_are_left_out(
    tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    def misbehave(site: str, request: Any, value: Any) -> Any:
        return change(value) if site == "site-004" and isinstance(value, Masked) else value

    run = Drawn(many(5), tmp_path, misbehave)
    asked = total_of(run, "fedavg")
    assert_sum_of(asked, run, sorted(run.data)[:4], 5)
    assert words in asked.refused["site-004"]


@pytest.mark.parametrize(
    "key", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ab" * 31, "AB" * 32, "x" * 64]
)
@pytest.mark.parametrize("part", ["mask", "box"])
def test_a_key_that_is_none_is_left_out_with_its_site(tmp_path: Path, key: str, part: str) -> None:
    """All would find out that it is none, and none would say who sent it."""

    def misbehave(site: str, request: Any, value: Any) -> Any:
        return (
            replace(value, **{part: key}) if site == "site-004" and isinstance(value, PublicKeys) else value
        )

    run = Drawn(many(5), tmp_path, misbehave)
    asked = total_of(run, "fedncm")
    assert_sum_of(asked, run, sorted(run.data)[:4], 5)
    assert list(asked.refused) == ["site-004"]


def test_false_shares_or_vectors_fail_the_attempt_and_never_pass_for_a_total(tmp_path: Path) -> None:
    def shares(site: str, request: Any, value: Any) -> Any:
        if site == "site-001" and isinstance(request, Unmasking):
            return type(value)(value.shares ^ np.uint8(1))
        return value

    asked = total_of(Drawn(many(5), tmp_path, shares), "fedavg")
    assert asked.failure
    assert asked.summands == []

    def vectors(site: str, request: Any, value: Any) -> Any:
        if site == "site-001" and isinstance(value, Masked):
            return Masked(value.round, value.fingerprint, value.classes, value.vector[::-1].copy())
        return value

    assert total_of(Drawn(many(5), tmp_path, vectors), "fedavg").failure


def test_a_site_whose_numbers_are_too_large_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    data = many(5)
    x, labels = data["site-004"]["train"]
    data["site-004"]["train"] = x * np.float32(1e19), labels
    run = Drawn(data, tmp_path)
    asked = total_of(run, "fed3r", normalise=False)
    assert_sum_of(asked, run, sorted(data)[:4], 5)
    assert asked.refused["site-004"].startswith("beyond-bound: ")


def test_a_site_that_hangs_is_left_out(tmp_path: Path) -> None:
    with hanging() as hang:

        def slow(site: str, request: Any, value: Any) -> Any:
            if site == "site-004" and isinstance(request, Peers):
                hang()
            return value

        run = Drawn(many(5), tmp_path, slow)
        asked = total_of(run, "fedavg")
    assert_sum_of(asked, run, sorted(run.data)[:4], 5)
    assert asked.refused == {"site-004": "did not answer in time"}


def test_two_sites_have_no_total(tmp_path: Path) -> None:
    """A third was to come."""
    run = Drawn(many(2), tmp_path)
    with pytest.raises(UserError, match=r"masks: 2 sites, .* 3 are needed"):
        run.run(rounds=1, sites=3, join_timeout=0.5, **DECLARED)
    assert not run.requests(Invitation)


def test_three_sites_are_enough(tmp_path: Path) -> None:
    outcome = Drawn(three_sites(), tmp_path).run(rounds=1, **DECLARED)
    assert outcome.total is not None


def test_sums_of_the_same_images_are_never_totalled_twice(tmp_path: Path) -> None:
    """The difference of two totals would be what the site that was missing once has sent."""

    def misbehave(site: str, request: Any, value: Any) -> Any:
        if site == "site-004" and isinstance(request, Gather):
            raise SiteError("tired", "not now")
        return value

    run = Drawn(many(5), tmp_path, misbehave)
    run.run(strategy="fedncm", **DECLARED)
    asked = run.requests(Gather)
    assert len(asked) == 5
    assert len({request.nonce for request in asked}) == 1
    [record] = [record for record in run.records if record.phase == "sums"]
    assert sorted(record.answers) == sorted(run.data)[:4]
    assert record.refused == {"site-004": "tired: not now"}


PRIVATE = {"dp": "site", "noise": "shared", "weighting": "uniform", "min_sites": 5, "rounds": 1}


def test_shared_noise_of_sites_is_in_the_masked_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With next to no noise, and a bound above all updates, the head is plain; with noise not."""
    monkeypatch.setattr("fedtransfer.common.config.privacy_rules.LEAST_NOISE", 0.0)
    uniform = {"weighting": "uniform", "rounds": 1, "classes": "declared", "class_names": "a,b,c"}
    plain = Drawn(many(5), tmp_path / "plain").run(**uniform).progress.state.head
    heads = {
        noise: Drawn(many(5), tmp_path / f"{noise:g}")
        .run(**{**DECLARED, **PRIVATE, "noise_multiplier": noise, "clip": 1e2})
        .progress.state.head
        for noise in (1e-6, 1e-2)
    }
    assert_close(heads[1e-6], plain, 1e-3)
    apart = np.concatenate([(a - b).ravel() for a, b in zip(heads[1e-2], plain, strict=True)])
    assert apart.std() == pytest.approx(1e-2 * 1e2 / 5, rel=0.1), "noise on the sum, over the number of sites"


def test_a_private_round_without_a_total_is_not_tried_again_and_says_so(tmp_path: Path) -> None:
    misbehave = dropping("unmask", 3)
    misbehave.sites = 5  # type: ignore[attr-defined]
    run = Drawn(many(5), tmp_path, misbehave)
    outcome = run.run(**{**DECLARED, **PRIVATE, "noise_multiplier": 1.0})
    assert not any(array.any() for array in outcome.progress.state.head)
    [record] = [record for record in run.records if record.phase == "train"]
    assert "are needed to unmask the sum" in record.failure
    assert len({request.nonce for request in run.requests(Task) if request.nonce}) == 1, (
        "the result needs no masks"
    )
