"""SCAFFOLD over rounds that go wrong: only what counted at the server counts at a site."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, Stopped, three_sites

from fedtransfer.client.training.scaffold import SiteState
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire.protocol import CONTROL, Task, Update
from fedtransfer.server.run_folder.summary import Outcome

DATA = three_sites()
HOW = {"strategy": "scaffold", "learning_rate": 1.0, "rounds": 6, "local_epochs": 2}


def spoiled(site: str, request, value):
    """Bert's update of round 2 is refused; round 4 fails once, with carl's answer alone let in."""
    if isinstance(value, Update):
        if (site, value.round) == ("bert", 2):
            return replace(value, total=tuple(array * np.float32(np.nan) for array in value.total))
        if value.round == 4 and site != "carl" and (site, "4") not in seen:
            seen.add((site, "4"))
            raise SiteError("tired", "not now")
    return value


seen: set[tuple[str, str]] = set()


@pytest.fixture(autouse=True)
def _anew() -> None:
    seen.clear()


def variates(run: Drawn, outcome: Outcome) -> list[tuple[np.ndarray, ...]]:
    """What each site holds of the run, as of the round in which it last counted."""
    counted, zeros = (
        outcome.progress.counted,
        tuple(np.zeros_like(array) for array in outcome.progress.state.head),
    )
    states = {name: SiteState(run.folder / name / "runs", outcome.progress.run) for name in run.data}
    return [states[name].after(counted[name]) if name in counted else zeros for name in run.data]


def assert_mean_of_variates(run: Drawn, outcome: Outcome) -> None:
    """c = 1/N Σ c_k, which Algorithm 1 keeps up from round to round."""
    own = variates(run, outcome)
    for j, control in enumerate(outcome.progress.state.slots["control"]):
        np.testing.assert_allclose(control, np.mean([array[j] for array in own], axis=0), atol=1e-6)
        assert abs(control).max() > 1e-3


def told(run: Drawn) -> dict[str, list[tuple[int, int]]]:
    """Site → (round, last round that counted) of each task of training, in order."""
    tasks = [(site, task) for site, task in run.asked if isinstance(task, Task) and CONTROL in task.extra]
    return {name: [(task.round, task.counted) for site, task in tasks if site == name] for name in run.data}


def test_sites_are_told_which_of_their_rounds_counted(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path, spoiled)
    outcome = run.run(**HOW)
    assert [(r.round, r.attempt, bool(r.failure)) for r in run.records if r.round == 4] == [
        (4, 1, True),
        (4, 2, False),
    ]
    assert told(run) == {
        "anna": [(1, 0), (2, 1), (3, 2), (4, 3), (4, 3), (5, 4), (6, 5)],
        "bert": [(1, 0), (2, 1), (3, 1), (4, 3), (4, 3), (5, 4), (6, 5)],
        "carl": [(1, 0), (2, 1), (3, 2), (4, 3), (4, 3), (5, 4), (6, 5)],
    }
    assert outcome.progress.counted == {"anna": 6, "bert": 6, "carl": 6}


def test_the_servers_variate_stays_the_mean_of_the_sites_whatever_goes_wrong(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path, spoiled)
    assert_mean_of_variates(run, run.run(**HOW))


def test_a_round_that_failed_leaves_no_trace(tmp_path: Path) -> None:
    def fails(site: str, request, value):
        if isinstance(value, Update) and value.round == 4 and site != "carl" and (site, "4") not in seen:
            seen.add((site, "4"))
            raise SiteError("tired", "not now")
        return value

    calm, failed = Drawn(DATA, tmp_path / "calm"), Drawn(DATA, tmp_path / "failed", fails)
    expected, outcome = calm.run(**HOW), failed.run(**HOW)
    assert any(record.failure for record in failed.records)
    for one, other in zip(variates(failed, outcome), variates(calm, expected), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(outcome.progress.state.head[0], expected.progress.state.head[0])


def test_a_site_that_fails_until_it_is_set_aside_goes_on_from_where_it_last_counted(tmp_path: Path) -> None:
    """However many states it has made since, of which it keeps a few only."""

    def fails(site: str, request, value):
        if isinstance(value, Update) and site == "bert" and 2 <= value.round <= 4:
            return replace(value, examples=0)
        return value

    run = Drawn(DATA, tmp_path, fails)
    outcome = run.run(**HOW | {"rounds": 9})
    assert told(run)["bert"] == [(1, 0), (2, 1), (3, 1), (4, 1)], "set aside until round 10"
    assert outcome.progress.counted == {"anna": 9, "bert": 1, "carl": 9}
    assert_mean_of_variates(run, outcome)
    again = Drawn(DATA, tmp_path)
    outcome = again.run(**HOW | {"rounds": 11, "resume": True})
    assert told(again)["bert"] == [(10, 1), (11, 10)]
    assert_mean_of_variates(again, outcome)


@pytest.mark.parametrize("cohort", [{"cohort_size": 1}, {"fraction": 0.5, "sampling": "poisson"}])
def test_so_it_is_with_cohorts_and_after_a_resumption(tmp_path: Path, cohort: dict) -> None:
    """Poisson cohorts may be empty. Sites have trained a round more than the checkpoint knows."""
    how = {**HOW, **cohort, "rounds": 9}
    whole, run = Drawn(DATA, tmp_path / "whole"), Drawn(DATA, tmp_path / "run")
    expected = whole.run(**how)
    with pytest.raises(Stopped):
        run.run(stop_after=4, **how)
    resumed = Drawn(DATA, tmp_path / "run")
    outcome = resumed.run(resume=True, **how)
    assert outcome.progress.counted == expected.progress.counted
    assert set(outcome.progress.counted.values()) - {9}, "some site sat out the last round"
    assert_mean_of_variates(resumed, outcome)
    np.testing.assert_array_equal(outcome.progress.state.head[0], expected.progress.state.head[0])
    for one, other in zip(variates(resumed, outcome), variates(whole, expected), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_other_strategies_tell_nothing_of_it(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    assert run.run(rounds=2).progress.counted == {}
    assert {task.counted for task in run.requests(Task)} == {0}
