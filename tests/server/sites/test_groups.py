"""Many sites in one process: in groups, with sums that are added as they arrive."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_sites import Drawn, assert_same, draw, hanging
from flwr.app import Message

from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire.protocol import Gather, Sums
from fedtransfer.server.sites import messenger
from fedtransfer.server.sites.total import RunningTotal
from fedtransfer.server.strategies.one_shot import added
from fedtransfer.simulations.engines.inprocess import InProcessGrid

DATA = {
    f"site-{k}": {split: draw(10 * k + i, 9 + k) for i, split in enumerate(("train", "validation", "test"))}
    for k in range(7)
}
RUNS: tuple[dict[str, Any], ...] = (
    {"strategy": "fed3r"},
    {"strategy": "fedncm"},
    {"strategy": "fedcof"},
    {"standardise": "federated", "init": "fed3r", "rounds": 2, "personal_epochs": 1},
    {"strategy": "scaffold", "rounds": 3, "cohort_size": 5},
)


def sums(seed: int) -> Sums:
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=5), rng.normal(size=(3, 2)).astype(np.float32), rng.integers(0, 9, 3)
    return Sums(0, "f" * 64, "c" * 16, seed, arrays)


def test_a_running_total_has_the_bits_of_a_sum_in_site_order() -> None:
    all_of_them = {f"site-{k:02}": sums(k) for k in range(40)}
    total, held = RunningTotal(), {}
    for start in range(0, 40, 7):
        group = [*all_of_them.items()][start : start + 7]
        held |= total.added(dict(reversed(group)))
    assert total.value is not None
    assert total.value.examples == sum(range(40))
    assert_same(added([total.value]), added([*all_of_them.values()]))
    assert [array.dtype for array in total.value.arrays] == [np.float64] * 3
    assert held.keys() == all_of_them.keys()
    assert all(one.arrays == () and one.examples == all_of_them[site].examples for site, one in held.items())


def test_the_first_site_s_sums_are_not_changed() -> None:
    first, copy = sums(1), sums(1)
    RunningTotal().added({"a": first, "b": sums(2)})
    assert_same(first.arrays, copy.arrays)


@pytest.mark.parametrize("settings", RUNS, ids=str)
def test_heads_have_the_same_bits_whatever_the_size_of_groups(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, sent = [], []
    for group in (1, 3, 64):
        monkeypatch.setattr(InProcessGrid, "group", group)
        run = Drawn(DATA, tmp_path / str(group))
        heads.append(run.run(**settings).progress.state.head)
        sent.append(sorted((site, type(value).__name__) for site, value in run.answered))
    assert_same(heads[0], heads[2])
    assert_same(heads[1], heads[2])
    assert sent[0] == sent[1] == sent[2]


def test_no_more_sites_than_a_group_have_messages_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    send = InProcessGrid.send_and_receive

    def counted(grid: InProcessGrid, messages: list[Message], **how: Any) -> Any:
        sizes.append(len(messages))
        return send(grid, messages, **how)

    monkeypatch.setattr(InProcessGrid, "send_and_receive", counted)
    monkeypatch.setattr(InProcessGrid, "group", 3)
    run = Drawn(DATA, tmp_path)
    run.run(strategy="fed3r")
    assert set(sizes) == {3, 1}
    assert sum(sizes) == len(run.asked)


@pytest.mark.parametrize(("strategy", "most"), [("fed3r", 3), ("fedncm", 3), ("fedcof", 7)])
def test_sums_of_single_sites_are_let_go_unless_the_head_is_made_of_them(
    tmp_path: Path, strategy: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So memory holds the sums of two groups, not those of all sites."""
    monkeypatch.setattr(InProcessGrid, "group", 1)
    alive: list[int] = []
    arrays: list[weakref.ref[Any]] = []
    admit = messenger.admit

    def watched(*arguments: Any, **how: Any) -> Any:
        answers = admit(*arguments, **how)
        arrays.extend(
            weakref.ref(array)
            for value in answers.admitted.values()
            if isinstance(value, Sums)
            for array in value.arrays[:1]
        )
        alive.append(sum(array() is not None for array in arrays))
        return answers

    monkeypatch.setattr(messenger, "admit", watched)
    run = Drawn(DATA, tmp_path)
    run.run(strategy=strategy)
    assert len(arrays) == 7
    assert max(alive) <= most
    assert (max(alive) == 7) == (strategy == "fedcof")
    [gathered] = [record for record in run.records if record.phase == "sums"]
    assert [answer.examples for answer in gathered.answers.values()] == [9 + k for k in range(7)]


def test_a_site_that_is_asked_again_is_in_the_total_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InProcessGrid, "group", 2)
    tired: set[str] = set()

    def fails(site: str, request: Any, value: Any) -> Any:
        if isinstance(request, Gather) and site in ("site-1", "site-4") and site not in tired:
            tired.add(site)
            raise SiteError("tired", "not now")
        return value

    calm, failed = Drawn(DATA, tmp_path / "calm"), Drawn(DATA, tmp_path / "failed", fails)
    expected, outcome = calm.run(strategy="fed3r"), failed.run(strategy="fed3r")
    assert tired == {"site-1", "site-4"}
    assert len(failed.requests(Gather)) == 9
    for one, other in zip(outcome.progress.state.head, expected.progress.state.head, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_an_error_of_a_later_group_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InProcessGrid, "group", 3)
    send, calls = InProcessGrid.send_and_receive, []

    def broken(grid: InProcessGrid, messages: list[Message], **how: Any) -> Any:
        calls.append(len(messages))
        if len(calls) == 2:
            raise RuntimeError("the second group")
        return send(grid, messages, **how)

    monkeypatch.setattr(InProcessGrid, "send_and_receive", broken)
    with pytest.raises(RuntimeError, match="the second group"):
        Drawn(DATA, tmp_path).run(strategy="fed3r")


def test_a_site_that_hangs_costs_its_group_a_timeout_and_no_other_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InProcessGrid, "group", 2)
    with hanging() as hang:

        def misbehave(site: str, request: Any, value: Any) -> Any:
            if isinstance(request, Gather) and site == "site-3":
                hang()
            return value

        run = Drawn(DATA, tmp_path, misbehave)
        run.run(strategy="fed3r", round_retries=0)
    [gathered] = [record for record in run.records if record.phase == "sums"]
    assert gathered.refused == {"site-3": "did not answer in time"}
    assert sorted(gathered.answers) == [name for name in sorted(DATA) if name != "site-3"]
