"""What comes before the first round: moments of features, and one-shot heads."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from drawn_sites import (
    WIDTH,
    Drawn,
    Stopped,
    assert_same,
    draw,
    losses_of,
    numbers,
    seen,
    three_sites,
    together,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.wire.protocol import MOMENTS, Gather, Query, Task, Trial
from fedtransfer.server.callbacks.tables import Tables, read_history
from fedtransfer.server.rounds.before import FACTORS
from fedtransfer.server.strategies.one_shot import GRID, NEVER

DATA = three_sites()
HEAD_BYTES = 4 * (WIDTH + 1) * 3
SLACK = 2048  # what the protocol promises to add at most


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_moments_over_any_split_are_those_of_all_images_together(
    tmp_path_factory, seed: int, sizes: list[int]
) -> None:
    x, labels = draw(seed, sum(sizes))
    x[:, 5] = 2.5  # constant everywhere
    ends = np.cumsum([0, *sizes])
    rest = {"validation": draw(seed + 1, 3), "test": draw(seed + 2, 3)}
    data = {f"site-{k}": {"train": (x[a:b], labels[a:b]), **rest} for k, (a, b) in enumerate(pairwise(ends))}
    outcome = Drawn(data, tmp_path_factory.mktemp("run")).run(standardise="federated", rounds=1)
    mean, deviation = outcome.moments
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(deviation, x.astype(np.float64).std(0), rtol=1e-6, atol=1e-9)
    assert deviation[5] == 0


def test_moments_travel_with_every_message_after_they_are_known(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(standardise="federated", init="fed3r", personal_epochs=1, rounds=2)
    before = [request for request in run.requests(Gather) if request.what == "moments"]
    assert len(before) == 3
    assert not any(request.extra for request in before)
    later = [request for _, request in run.asked if not isinstance(request, Query) and request not in before]
    assert {(type(request).__name__, request.round) for request in later} == {
        ("Gather", 0), ("Trial", 0), ("Task", 1), ("Task", 2), ("Task", 3), ("Task", outcome.best.round)
    }  # fmt: skip
    for request in later:
        assert_same(request.extra[MOMENTS], outcome.moments)


def by_definition(config, classes: str = "abc") -> dict[tuple[float, float], float]:
    """(λ, factor) → loss on all validation images of ridge regression on all training images."""
    (x, labels), (v, v_labels) = together(DATA, "train"), together(DATA, "validation")
    z = np.column_stack([seen(config, x), np.ones(len(x))]).astype(np.float64)
    validation, y = seen(config, v), numbers(v_labels, classes)
    right = z.T @ np.eye(3)[numbers(labels, classes)]
    found = {}
    for ridge in (config.ridge,) if config.ridge else GRID:
        solved = np.linalg.solve(z.T @ z + ridge * np.eye(len(right)), right)
        found |= {(ridge, f): losses_of((solved[:-1], solved[-1]), validation, y, f) for f in FACTORS}
    return found


@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_the_head_is_the_one_with_the_lowest_loss_on_all_validation_images(
    tmp_path: Path, ridge: float
) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(strategy="fed3r", ridge=ridge)
    losses = by_definition(run.config(strategy="fed3r", ridge=ridge))
    ordered = sorted(losses.values())
    assert ordered[1] > ordered[0] * (1 + 1e-5), "no tie decides it"
    chosen = outcome.progress.one_shot
    assert (chosen["ridge"], chosen["factor"]) == min(losses, key=losses.__getitem__)
    assert outcome.best.loss * len(together(DATA, "validation")[1]) == pytest.approx(ordered[0], rel=1e-4)
    assert chosen["factor"] not in (1.0, FACTORS[0], FACTORS[-1])


@pytest.mark.parametrize(("loss", "other", "best"), [(5.5, 2.4, -1), (100.0, 11.0, 0)])
def test_sites_that_disagree_are_outvoted_by_their_sum_of_losses(
    tmp_path: Path, loss: float, other: float, best: int
) -> None:
    """Two sites prefer the smallest λ; the third outvotes them, but not beyond guessing."""

    def opinion(site: str, request, value):
        if isinstance(request, Trial) and request.round == 0:
            value.losses[:] = 50.0
            value.losses[0, 7] = loss if site == "carl" else 1.0
            value.losses[-1, 7] = other
        return value

    chosen = Drawn(DATA, tmp_path, opinion).run(strategy="fed3r").progress.one_shot
    assert (chosen["ridge"], chosen["factor"]) == (GRID[best], FACTORS[7])


def test_a_trial_needs_a_quorum_and_is_tried_again_without_one(tmp_path: Path) -> None:
    def refuse(site: str, request, value):
        if site == "carl" and isinstance(request, Trial):
            raise SiteError("tired", "no more today")
        return value

    some, none = Drawn(DATA, tmp_path / "some", refuse), Drawn(DATA, tmp_path / "none", refuse)
    some.run(strategy="fed3r")
    assert sorted(site for site, request in some.asked if isinstance(request, Trial)) == [
        "anna",
        "bert",
        "carl",
    ]
    with pytest.raises(UserError, match=r"round 0: 2 of 3 .* 3 are (.|\n)*carl: tired"):
        none.run(strategy="fed3r", min_sites=3)
    assert [site for site, request in none.asked if isinstance(request, Trial)].count("carl") == 3


def test_without_validation_images_lambda_is_1_and_the_scores_as_they_are(tmp_path: Path) -> None:
    data = three_sites(validation=0)
    for strategy, settings_, ridge in (
        ("fed3r", {}, 1.0), ("fed3r", {"ridge": 7.0}, 7.0), ("fedcof", {}, 1.0), ("fedncm", {}, 0.0)
    ):  # fmt: skip
        outcome = Drawn(data, tmp_path / f"{strategy}{ridge}").run(strategy=strategy, **settings_)
        assert outcome.progress.one_shot == {"ridge": ridge, "factor": 1.0}
        assert outcome.best.round == 1, "the only head there is"


def test_a_one_shot_head_ends_there_or_is_what_the_first_round_begins_with(tmp_path: Path) -> None:
    """A class without training images is never predicted; where it may come, it can be learnt."""
    x, _ = draw(5, 4)
    data = {**DATA, "carl": {**DATA["carl"], "test": (x, np.array(["a", "b", "c", "d"]))}}
    end, start = Drawn(data, tmp_path / "end"), Drawn(data, tmp_path / "start")
    closed, opened = end.run(strategy="fed3r"), start.run(init="fed3r", rounds=1)
    kernel, bias = closed.best.head
    assert not end.requests(Task)[0].extra
    assert bias[3] <= NEVER
    assert not kernel[:, 3].any()
    first = next(request for request in start.requests(Task) if request.round == 1).head
    assert_same(first, (kernel, np.where(np.arange(4) == 3, bias[:3].min(), bias)))
    assert closed.progress.one_shot == opened.progress.one_shot
    assert closed.progress.round == 0
    assert [record.phase for record in end.records] == ["sums", "trial", "score"]


@pytest.mark.parametrize(
    "how",
    [
        {"init": "fed3r", "standardise": "federated"},
        {"standardise": "federated"},
        {"init": "fedncm"},
    ],
)
@pytest.mark.parametrize("stop_after", [0, 1])
def test_a_resumed_run_does_not_gather_again_and_ends_alike(
    tmp_path: Path, how: dict, stop_after: int
) -> None:
    whole, broken, resumed = (Drawn(DATA, tmp_path / name) for name in ("whole", "broken", "broken"))
    expected = whole.run(Tables(), **how)
    with pytest.raises(Stopped):
        broken.run(Tables(), stop_after=stop_after, **how)
    assert broken.requests(Gather)
    outcome = resumed.run(Tables(), resume=True, **how)
    assert not resumed.requests(Gather)
    assert not resumed.requests(Trial)
    assert_same(outcome.best.head, expected.best.head)
    assert_same(outcome.progress.state.head, expected.progress.state.head)
    assert outcome.progress.one_shot == expected.progress.one_shot
    assert outcome.progress.arrays.keys() == expected.progress.arrays.keys()
    for name, arrays in expected.progress.arrays.items():
        assert_same(outcome.progress.arrays[name], arrays)
    histories = [
        [{**row, "seconds": "", "seconds_aggregating": ""} for row in read_history(run.folder)]
        for run in (whole, resumed)
    ]
    assert histories[0] == histories[1]


def test_a_one_shot_run_is_resumed_from_its_head(tmp_path: Path) -> None:
    def unwell(site: str, request, value):
        if isinstance(request, Task):
            raise SiteError("tired", "not now")
        return value

    with pytest.raises(UserError, match="round 1: 0 of 3 sites"):
        Drawn(DATA, tmp_path, unwell).run(strategy="fed3r")
    resumed = Drawn(DATA, tmp_path)
    outcome = resumed.run(strategy="fed3r", resume=True)
    assert not resumed.requests(Gather)
    assert_same(outcome.best.head, Drawn(DATA, tmp_path / "other").run(strategy="fed3r").best.head)


def test_the_history_has_every_phase_with_its_bytes(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    run.run(Tables(), standardise="federated", init="fed3r", personal_epochs=1, rounds=2)
    rows = [
        (r["phase"], int(r["round"]), r["status"], int(r["sites_present"])) for r in read_history(tmp_path)
    ]
    assert rows == [
        ("sums", 0, "ok", 3), ("sums", 0, "ok", 3), ("trial", 0, "ok", 3), ("train", 1, "ok", 3),
        ("train", 2, "ok", 3), ("score", 3, "ok", 3), ("personal", 3, "ok", 3),
    ]  # fmt: skip
    moments, gram = 2 * 8 * WIDTH, 8 * ((WIDTH + 1) * (WIDTH + 2) // 2 + (WIDTH + 1) * 3)
    heads, counts = HEAD_BYTES + moments, 2 * 4 * 3 * 3
    expected = [
        (0, moments), (moments, gram), (len(GRID) * HEAD_BYTES + moments, len(GRID) * 8 * len(FACTORS)),
        *[(heads, HEAD_BYTES + counts)] * 2, (heads, counts), (heads, 32),
    ]  # fmt: skip
    for row, (down, up) in zip(read_history(tmp_path), expected, strict=True):
        assert down < int(row["bytes_down_per_site"]) <= down + SLACK, row
        assert up < int(row["bytes_up_per_site"]) <= up + SLACK, row


def test_early_stopping_counts_from_the_one_shot_head_and_keeps_it(tmp_path: Path) -> None:
    """Wild rates make every round worse than the head that the run began with."""
    run = Drawn(DATA, tmp_path)
    wild = {"init": "fed3r", "learning_rate": 3000.0, "early_stopping": 2, "rounds": 9, "batch_size": 4}
    outcome = run.run(**wild)
    assert outcome.progress.round == 3, "rounds 2 and 3 were no better than round 1"
    assert (outcome.progress.waited, outcome.best.round) == (2, 1)
    assert_same(outcome.best.head, next(task for task in run.requests(Task) if task.round == 1).head)
    broken, resumed = Drawn(DATA, tmp_path / "broken"), Drawn(DATA, tmp_path / "broken")
    with pytest.raises(Stopped):
        broken.run(stop_after=2, **wild)
    again = resumed.run(resume=True, **wild)
    assert (again.progress.round, again.progress.waited, again.best.round) == (3, 2, 1)
    assert_same(again.best.head, outcome.best.head)


def test_all_trainers_are_summed_whoever_trains(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(standardise="federated", init="fed3r", cohort_size=1)
    full = Drawn(DATA, tmp_path / "full").run(standardise="federated", init="fed3r", rounds=1)
    assert_same(outcome.moments, full.moments)
    assert outcome.progress.one_shot == full.progress.one_shot
    phases = [(record.phase, len(record.planned)) for record in run.records]
    assert phases == [("sums", 3), ("sums", 3), ("trial", 3), *[("train", 1)] * 3, ("score", 3)]
    y = numbers(together(DATA, "validation")[1], "abc")
    x = seen(run.config(standardise="federated"), together(DATA, "validation")[0], outcome.moments)
    assert outcome.best.loss == pytest.approx(losses_of(outcome.best.head, x, y) / len(y), rel=1e-4), (
        "by all sites"
    )


def test_with_a_schedule_a_run_is_not_resumed_to_other_rounds(tmp_path: Path) -> None:
    """All its rates would have been others."""
    run = Drawn(DATA, tmp_path)
    run.run(init="fedncm", schedule="cosine", rounds=3)
    with pytest.raises(UserError, match="rounds was 3 and is 5"):
        Drawn(DATA, tmp_path).run(init="fedncm", schedule="cosine", rounds=5, resume=True)
