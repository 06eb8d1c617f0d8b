"""The round loop over a grid whose sites misbehave on purpose."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Confusion, Description, Scores, Task, Update
from fedtransfer.server.callbacks import Callback, Round
from fedtransfer.server.rounds.loop import federate
from fedtransfer.server.run_folder.summary import Outcome
from fedtransfer.server.sites.cohort import draw_cohort
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process

CLASSES = ("a", "b")
SITES = [SimulatedSite(name, {"name": name}) for name in ("anna", "bert", "carl")]


def counts(loss: float) -> Counts:
    return Counts(np.array([2, 2]), np.array([2, 2]), np.array([1, 1]), loss)


def stub(misbehave: Callable[[str, str, object], object] = lambda site, kind, value: value) -> ClientApp:
    """Sites whose update is all ones, and whose validation loss falls until round 3, then rises."""
    app = ClientApp()

    def answer(message: Message, context: Context, kind: str, make: Callable[[Task], object]) -> Message:
        asked = wire.unpack(message.content, protocol.Query if kind == "query" else Task)
        try:
            value = misbehave(str(context.node_config["name"]), kind, make(asked))
        except SiteError as error:
            value = error
        return Message(wire.pack(value), reply_to=message)

    def scores(task: Task) -> tuple:
        stated = (load_backbone(BUNDLED).fingerprint, protocol.classes_digest(task.classes))
        return task.round, *stated, counts(1 + abs(3 - task.round)), counts(5.0)

    def update(task: Task) -> Update:
        return Update(*scores(task), 10, tuple(np.full(array.shape, 10, np.float32) for array in task.head))

    app.query()(
        lambda message, context: answer(
            message, context, "query", lambda _: Description({"a": (5, 2, 2), "b": (5, 2, 2)}, 0)
        )
    )
    app.train()(lambda message, context: answer(message, context, "train", update))
    app.evaluate()(
        lambda message, context: answer(message, context, "evaluate", lambda task: Scores(*scores(task)))
    )
    app.evaluate("finish")(
        lambda message, context: answer(
            message, context, "finish", lambda task: Confusion(*scores(task), np.ones((2, 2), np.int64))
        )
    )
    return app


class Rounds(Callback):
    def __init__(self) -> None:
        self.records: list[Round] = []

    def on_round(self, record: Round) -> None:
        self.records.append(record)


def run(app: ClientApp, **settings: object) -> tuple[Outcome, list[Round]]:
    config = RunConfig(
        **{"sites": 3, "rounds": 5, "server_learning_rate": 1.0, "server_momentum": 0.0, **settings}
    )
    server, outcomes, rounds = ServerApp(), [], Rounds()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(federate(grid, config, load_backbone(BUNDLED), Path(folder), [rounds]))

    run_in_process(server, app, SITES, config.to_flat(), 2)
    return outcomes[0], rounds.records


def test_best_head_by_validation_is_kept_and_scores_are_of_the_head_entering() -> None:
    outcome, rounds = run(stub())
    assert [record.round for record in rounds] == [1, 2, 3, 4, 5, 6]
    assert outcome.best.round == 3
    assert (outcome.best.head[0] == 2).all(), "the head that entered round 3 has two updates of one in it"
    assert [record.best for record in rounds] == [True, True, True, False, False, False]
    assert rounds[0].validation.loss == 3 * 3.0
    assert set(outcome.confusion) == {"anna", "bert", "carl"}


def test_bytes_do_not_depend_on_the_random_ids_in_flowers_envelope(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run id below 2^49, one in 128, takes a byte less: a resumed run's history would differ."""
    sizes, random = [], os.urandom
    for run_id in (b"\0" * 6 + b"\x05", b"\xff" * 7):
        monkeypatch.setattr(os, "urandom", lambda n, run_id=run_id: run_id if n == 7 else random(n))
        sizes.append([(record.bytes_down, record.bytes_up) for record in run(stub())[1]])
    assert sizes[0] == sizes[1]


def test_partial_participation_follows_the_plan() -> None:
    _, rounds = run(stub(), fraction=0.34)
    assert all(len(record.planned) == 1 for record in rounds[:-1])
    assert rounds[-1].planned == ("anna", "bert", "carl")
    assert len({record.planned for record in rounds[:-1]}) > 1


def test_sites_that_are_not_drawn_hear_nothing_between_the_first_and_the_last_round() -> None:
    asked: list[tuple[str, str]] = []

    def note(site: str, kind: str, value):
        asked.append((site, kind))
        return value

    _, rounds = run(stub(note), fraction=0.34)
    trained = [site for site, kind in asked if kind == "train"]
    assert trained == [site for record in rounds[:-1] for site in record.planned]
    for kind, times in (("query", 1), ("evaluate", 2), ("finish", 1)):
        assert sorted(site for site, k in asked if k == kind) == sorted(["anna", "bert", "carl"] * times)


def test_with_partial_participation_the_best_is_compared_with_the_last_by_all_sites() -> None:
    """Cohorts of one site: bert alone likes round 3 best, all sites together the last head."""

    def opinion(site: str, kind: str, value):
        if kind in ("train", "evaluate"):
            return replace(
                value, validation=counts(0.1 if site == "bert" and value.round == 3 else 9.0 - value.round)
            )
        return value

    for seed in range(50):
        if draw_cohort(["anna", "bert", "carl"], 1, RunConfig(seed=seed), 3) == ("bert",):
            break
    outcome, rounds = run(stub(opinion), fraction=0.34, seed=seed)
    assert [record.best for record in rounds] == [True, True, True, False, False, True]
    assert outcome.best.round == 6


def test_without_validation_images_the_last_head_is_kept() -> None:
    def no_validation(site: str, kind: str, value):
        return replace(value, validation=Counts.empty(2)) if kind in ("train", "evaluate") else value

    assert run(stub(no_validation))[0].best.round == 6


def test_early_stopping_does_not_count_rounds_that_say_nothing() -> None:
    def blind(site: str, kind: str, value):
        return (
            replace(value, validation=Counts.empty(2)) if kind in ("train", "evaluate", "finish") else value
        )

    assert run(stub(blind), early_stopping=1)[0].progress.round == 5
    assert run(stub(), early_stopping=1)[0].progress.round == 4, "the loss rises in round 4"


def test_a_dead_site_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def dead(site: str, kind: str, value):
        asked.append((site, kind))
        if site == "bert" and kind in ("evaluate", "finish"):
            raise SiteError("gone", "for good")
        return value

    outcome, _ = run(stub(dead))
    assert asked.count(("bert", "evaluate")) == 1, "enough others have scored the head"
    assert asked.count(("bert", "finish")) == 3, "but it should get the result"
    assert asked.count(("anna", "finish")) == 1
    assert outcome.undelivered == {"bert": "gone: for good"}


def test_a_site_that_fails_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    def nan(site: str, kind: str, value):
        if site == "bert" and kind == "train" and value.round == 2:
            value.total[0][0, 0] = np.nan
        return value

    outcome, rounds = run(stub(nan))
    assert rounds[1].refused == {"bert": "sent an update with NaN or infinite values"}
    assert set(rounds[1].answers) == {"anna", "carl"}
    assert all(not record.refused for i, record in enumerate(rounds) if i != 1)
    assert (outcome.best.head[0] == 2).all()
    assert "round 2: bert is left out" in caplog.text


def test_a_round_without_any_usable_reply_stops_the_run_with_the_reasons() -> None:
    def refuse(site: str, kind: str, value):
        if kind == "train" and value.round == 2:
            raise SiteError("tired", "no more today")
        return value

    with pytest.raises(UserError, match=r"round 2: 0 of 3 .* 2 are needed; tried 3(.|\n)*bert: tired"):
        run(stub(refuse))


def test_who_is_set_aside_is_asked_again_before_a_round_is_given_up() -> None:
    """Anna fails three times and is set aside; then only bert is drawn, and he fails for good."""

    def in_turn(site: str, kind: str, value):
        stopped = kind == "train" and site == ("anna" if value.round <= 3 else "bert")
        if stopped or (kind == "query" and site == "carl"):
            raise SiteError("stopped", "for now")
        return value

    outcome, rounds = run(stub(in_turn))
    attempts = [(each.round, each.attempt, each.planned, sorted(each.answers)) for each in rounds]
    assert attempts[3] == (4, 1, ("bert",), [])
    assert attempts[4] == (4, 2, ("anna", "bert"), ["anna"])
    assert outcome.progress.round == 5


def test_a_further_attempt_asks_those_first_that_have_not_failed_in_this_round() -> None:
    """Of cohorts of one site, the second and third attempts ask the two others."""

    def only_carl(site: str, kind: str, value):
        if kind == "train" and site != "carl":
            raise SiteError("stopped", "for now")
        return value

    _, rounds = run(stub(only_carl), cohort_size=1, rounds=12)
    for number in range(1, 13):
        assert "carl" in {site for each in rounds if each.round == number for site in each.planned}


def test_sites_that_cannot_take_part_are_named_and_too_few_others_stop_the_run_before_it_starts() -> None:
    def refuse(site: str, kind: str, value):
        if site == "carl" and kind == "query":
            raise SiteError("backbone-differs", "server 12, this site 34")
        return value

    outcome, rounds = run(stub(refuse))
    assert outcome.federation.absent == {"carl": "backbone-differs: server 12, this site 34"}
    assert set(outcome.confusion) == {"anna", "bert"}
    assert rounds[0].planned == ("anna", "bert")
    with pytest.raises(UserError, match=r"2 of 3 .* 3 are .*\n  carl: backbone-differs: "):
        run(stub(refuse), min_sites=3)


def test_a_site_without_training_images_is_scored_but_never_drawn(caplog: pytest.LogCaptureFixture) -> None:
    def bare(*names: str):
        def change(site: str, kind: str, value):
            return (
                Description({"a": (0, 2, 2), "b": (0, 2, 2)}, 0)
                if kind == "query" and site in names
                else value
            )

        return change

    outcome, rounds = run(stub(bare("anna")))
    assert all(record.planned == ("bert", "carl") for record in rounds[:-1])
    assert set(outcome.confusion) == {"anna", "bert", "carl"}
    assert "no training image at 1 site, scored only: anna\n" in caplog.text
    with pytest.raises(UserError, match="no site has a training image"):
        run(stub(bare("anna", "bert", "carl")))


def test_sites_are_waited_for_so_long_and_too_few_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"3 of 8 .* 0.1 s, 4 are needed. Connected: anna, bert, carl"):
        run(stub(), sites=8, join_timeout=0.1)
    run(stub(), sites=4, join_timeout=0.1)
    assert "3 of 4 sites" in caplog.text


def test_a_site_that_misses_the_result_is_named() -> None:
    def refuse(site: str, kind: str, value):
        if site == "carl" and kind == "finish":
            raise SiteError("disk", "full")
        return value

    outcome, _ = run(stub(refuse))
    assert outcome.undelivered == {"carl": "disk: full"}
    assert set(outcome.confusion) == {"anna", "bert"}
