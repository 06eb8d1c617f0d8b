"""What comes after the last round: closing scores and personal heads."""

from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, numbers, seen, three_sites, together

from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import Confusion, Personal

DATA = three_sites()


def test_personal_heads_are_asked_for_where_the_run_makes_them(tmp_path: Path) -> None:
    def refuse(site: str, request, value):
        if isinstance(value, Personal) and site == "carl":
            raise SiteError("full", "no room")
        return value

    run = Drawn(DATA, tmp_path / "run", refuse)
    outcome = run.run(personal_epochs=2, rounds=1)
    [record] = [record for record in run.records if record.phase == "personal"]
    assert (record.attempt, set(record.answers), record.refused) == (
        3,
        {"anna", "bert"},
        {"carl": "full: no room"},
    )
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


def test_confusion_of_the_best_head_is_on_all_test_images(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    outcome = run.run(rounds=4, learning_rate=20.0)
    matrices: list[Confusion] = list(outcome.confusion.values())
    x, labels = together(DATA, "test")
    y = numbers(labels, "abc")
    predicted = (seen(run.config(), x) @ outcome.best.head[0] + outcome.best.head[1]).argmax(1)
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (y, predicted), 1)
    np.testing.assert_array_equal(sum(answer.matrix for answer in matrices), expected)
    assert sum((answer.test for answer in matrices), Counts.empty(3)).total == len(y)
