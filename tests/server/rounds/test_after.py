"""What comes after the last round: heads between heads, the running mean of heads, and personal heads."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, losses_of, numbers, seen, three_sites, together
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import Confusion, Personal, Scores, Task, Trial
from fedtransfer.server.rounds.after import write_points
from fedtransfer.server.rounds.progress import EMA
from fedtransfer.server.run_folder.records import Outcome, Point

DATA = three_sites()
BOTH = {"interpolate": True, "ema": 0.8, "server_learning_rate": 0.5, "rounds": 4, "learning_rate": 20.0}


def entered(run: Drawn, outcome: Outcome) -> list[tuple[np.ndarray, ...]]:
    """The heads that entered the rounds, and the last."""
    by_round = {task.round: task.head for task in run.requests(Task) if task.round <= outcome.progress.round}
    return [*(by_round[number] for number in sorted(by_round)), outcome.progress.state.head]


def of(points: list[Point], curve: str) -> list[Point]:
    return [point for point in points if point.curve == curve]


def assert_scores(run: Drawn, point: Point, head: tuple[np.ndarray, ...]) -> None:
    """The head does on all images as the point says."""
    for split, (accuracy, loss) in (("validation", point.validation), ("test", point.test)):
        x, labels = together(run.data, split)
        z, y = seen(run.config(), x), numbers(labels, "abc")
        assert loss == pytest.approx(losses_of(head, z, y) / len(y), rel=1e-4)
        assert accuracy == pytest.approx(((z @ head[0] + head[1]).argmax(1) == y).mean())


def test_curves_have_eleven_points_and_their_ends_are_the_heads(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(**BOTH)
    points, heads = list(outcome.points), entered(run, outcome)
    assert [(point.curve, point.share) for point in points] == [
        (curve, i / 10) for curve in ("server", "initial", "ema") for i in range(11)
    ]
    assert len({id(head) for head in heads}) == 5
    before, last = heads[-2:]
    average = tuple(b + 2 * (a - b) for b, a in zip(before, last, strict=True))  # the server went half of the way
    mean = heads[0]
    for number, head in enumerate(heads[1:], 1):
        decay = min(0.8, (number - 1) / number)
        mean = tuple(decay * m + (1 - decay) * array for m, array in zip(mean, head, strict=True))
    for curve, start, end in (("server", before, average), ("initial", heads[0], last), ("ema", last, mean)):
        curve_points = of(points, curve)
        assert_scores(run, curve_points[0], start)
        assert_scores(run, curve_points[-1], end)
        assert_scores(run, curve_points[3], tuple(0.7 * a + 0.3 * b for a, b in zip(start, end, strict=True)))
        assert curve_points[0].validation != curve_points[-1].validation


def test_the_head_kept_is_the_best_by_validation_loss_of_all(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(**BOTH | {"learning_rate": 1.0})
    points = list(outcome.points)
    rounds = [record.validation.mean_loss for record in run.records if record.phase in ("train", "score")]
    best = min(points, key=lambda point: point.validation[1])
    assert outcome.best.loss == pytest.approx(min([*rounds, best.validation[1]]), rel=1e-5)
    assert outcome.best.mixed == f"{best.curve} {best.share:g}", "else these settings show nothing"
    assert_scores(run, best, outcome.best.head)
    assert {array.dtype for array in outcome.best.head} == {np.dtype(np.float32)}
    for site in DATA:
        delivered = next(task for name, task in run.asked[::-1] if name == site and isinstance(task, Task))
        for array, kept in zip(delivered.head, outcome.best.head, strict=True):
            np.testing.assert_array_equal(array, kept)


def test_a_round_that_was_better_than_all_between_stays_the_best(tmp_path: Path) -> None:
    def praise(site: str, request, value):
        if isinstance(request, Task) and request.round == 2 and isinstance(value, Scores):
            return replace(value, validation=replace(value.validation, loss=1e-6))
        return value

    run = Drawn(DATA, tmp_path, praise)
    outcome = run.run(**BOTH)
    assert (outcome.best.round, outcome.best.mixed) == (2, "")
    assert outcome.best.head[0] is not entered(run, outcome)[1][0]
    np.testing.assert_array_equal(outcome.best.head[0], entered(run, outcome)[1][0])


def test_the_best_may_be_the_running_mean_itself(tmp_path: Path) -> None:
    def praise(site: str, request, value):
        if isinstance(request, Trial):
            value.losses[:] = 5.0
            if (request.heads[0][0] == last[0]).all():  # the curve that begins at the last head
                value.losses[-1] = 1e-6
        return value

    last: list[np.ndarray] = []
    plain = Drawn(DATA, tmp_path / "plain").run(**BOTH)
    last.append(plain.progress.state.head[0])
    outcome = Drawn(DATA, tmp_path / "praised", praise).run(**BOTH)
    assert outcome.best.mixed == "ema 1"
    for array, mean in zip(outcome.best.head, outcome.progress.arrays[EMA], strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, mean.astype(np.float32))


@settings(max_examples=10)
@given(st.floats(0.01, 0.999), st.integers(1, 6), st.integers(0, 10**6))
def test_the_running_mean_is_that_of_polyak_in_float64(tmp_path_factory, decay: float, rounds: int, seed: int) -> None:
    run = Drawn(three_sites(seed % 7), tmp_path_factory.mktemp("run"))
    outcome = run.run(ema=decay, rounds=rounds, seed=seed, learning_rate=50.0)
    first, *later = entered(run, outcome)
    assert len(later) == rounds
    for j, found in enumerate(outcome.progress.arrays[EMA]):
        mean = first[j].astype(np.float64)
        for number, head in enumerate(later, 1):  # at first the plain mean of what there is
            held = min(decay, (number - 1) / number)
            mean = held * mean + (1 - held) * head[j]
        np.testing.assert_allclose(found, mean, rtol=1e-12, atol=1e-14)


def test_without_its_settings_there_is_no_curve_and_without_a_mean_two(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path / "plain")
    assert not list(run.run(rounds=1).points)
    assert not run.requests(Trial)
    points = list(Drawn(DATA, tmp_path / "two").run(rounds=1, interpolate=True).points)
    assert {point.curve for point in points} == {"server", "initial"}
    ema = list(Drawn(DATA, tmp_path / "ema").run(rounds=1, ema=0.5).points)
    assert {point.curve for point in ema} == {"ema"}


def test_without_validation_images_the_last_head_is_kept_and_curves_are_of_test_images(tmp_path: Path) -> None:
    outcome = Drawn(three_sites(validation=0), tmp_path).run(**BOTH)
    assert (outcome.best.round, outcome.best.mixed) == (5, "")
    assert all(math.isnan(value) for point in outcome.points for value in point.validation)
    assert all(math.isfinite(value) for point in outcome.points for value in point.test)


def test_interpolation_csv(tmp_path: Path) -> None:
    nan = (math.nan, math.nan)
    write_points(
        tmp_path / "interpolation.csv",
        [Point("server", 0.1, (0.5, 1 / 3), (0.25, 2.0)), Point("ema", 1.0, nan, (1, 0))],
    )
    with (tmp_path / "interpolation.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["curve", "share", "validation_accuracy", "validation_loss", "accuracy", "loss"],
            ["server", "0.1", "0.500000", "0.333333", "0.250000", "2.000000"],
            ["ema", "1", "nan", "nan", "1.000000", "0.000000"],
        ]


def test_personal_heads_are_asked_for_where_the_run_makes_them(tmp_path: Path) -> None:
    def refuse(site: str, request, value):
        if isinstance(value, Personal) and site == "carl":
            raise SiteError("full", "no room")
        return value

    run = Drawn(DATA, tmp_path / "run", refuse)
    outcome = run.run(personal_epochs=2, rounds=1)
    [record] = [record for record in run.records if record.phase == "personal"]
    assert (record.attempt, set(record.answers), record.refused) == (3, {"anna", "bert"}, {"carl": "full: no room"})
    assert outcome.personal["sites"] == 2
    assert outcome.personal["sites_without_answer"] == ["carl"]
    images = [len(DATA[site]["test"][1]) for site in ("anna", "bert")]
    assert outcome.personal["images"] == sum(images)
    answers = [record.answers[site] for site in ("anna", "bert")]
    right = [answer.correct[0] for answer in answers]
    assert outcome.personal["global"]["pooled"] == pytest.approx(sum(right) / sum(images))
    confusion = [outcome.confusion[site].test.correct.sum() for site in ("anna", "bert")]
    assert right == confusion, "the global head is the one that was delivered"
    assert Drawn(DATA, tmp_path / "none").run(rounds=1).personal == {}


def test_confusion_of_the_head_kept_is_on_all_test_images(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(**BOTH)
    matrices: list[Confusion] = list(outcome.confusion.values())
    x, labels = together(DATA, "test")
    y = numbers(labels, "abc")
    predicted = (seen(run.config(), x) @ outcome.best.head[0] + outcome.best.head[1]).argmax(1)
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (y, predicted), 1)
    np.testing.assert_array_equal(sum(answer.matrix for answer in matrices), expected)
    assert sum((answer.test for answer in matrices), Counts.empty(3)).total == len(y)
