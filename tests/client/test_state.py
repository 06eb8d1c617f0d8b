import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.client.training.scaffold import SiteState
from fedtransfer.common.errors import SiteError, UserError

RUN = "00ff00ff00ff00ff"


def arrays(seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3,)))


def same(found, wanted) -> bool:
    pairs = list(zip(found, wanted, strict=True))
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def files(folder: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in (folder / RUN).iterdir())


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_each_of_the_newest_rounds_has_its_state(tmp_path_factory, rounds: list[int]) -> None:
    """Whatever is played, again or anew: against a dictionary that forgets what came after."""
    state, memory = SiteState(tmp_path_factory.mktemp("s"), RUN), {}
    for seed, round in enumerate(rounds):
        for r in range(11):
            assert same(state.after(r), memory[r]) if r in memory else state.after(r) is None
        state.keep(round, arrays(seed))
        memory = {r: memory[r] for r in memory if r < round} | {round: arrays(seed)}
        memory = {r: memory[r] for r in sorted(memory)[-3:]}
    assert files(state.folder) == [f"round-{r:06}" for r in sorted(memory)]


def test_a_replayed_round_starts_from_what_it_started_from(tmp_path: Path) -> None:
    state = SiteState(tmp_path, RUN)
    for round in (1, 4, 5):
        state.keep(round, arrays(round))
    for _ in range(2):
        assert same(state.after(4), arrays(4))
        state.keep(5, arrays(50))
    assert same(state.after(5), arrays(50))
    state.keep(2, arrays(2))  # the server went back
    assert files(tmp_path) == ["round-000001", "round-000002"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_state_is_set_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    state = SiteState(tmp_path, RUN)
    state.keep(1, arrays(1))
    state.keep(2, arrays(2))
    newest = next((tmp_path / RUN).glob("round-000002.*"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:-7], "flip": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert state.after(2) is None
    assert f"{newest} is damaged, so it is set aside" in caplog.text
    assert newest.with_suffix(".damaged").exists()
    caplog.clear()
    assert state.after(2) is None
    assert same(state.after(1), arrays(1))
    assert not caplog.text


def test_a_write_that_is_cut_off_leaves_the_states_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SiteState(tmp_path, RUN)
    state.keep(1, arrays(1))

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"round-000002.* No space left on device"):
        state.keep(2, arrays(2))
    assert files(tmp_path) == ["round-000001"]
    assert same(state.after(1), arrays(1))


def test_only_the_runs_used_last_are_kept(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    names = [f"{i:016x}" for i in range(10)]
    for i, name in enumerate(names[:8]):
        SiteState(tmp_path, name).keep(1, arrays(0))
        os.utime(tmp_path / name, (1000 + i, 1000 + i))
    SiteState(tmp_path, names[0]).after(1)  # reading is use
    for name in names[8:]:
        SiteState(tmp_path, name).keep(1, arrays(0))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"results", *names} - {names[1], names[2]}


@pytest.mark.parametrize(
    "name", ["", "../../etc", "00FF00FF", "0123abc", "a" * 65, "0123abcd/x", "0123abcd\n", "runs"]
)
def test_a_run_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SiteError, match=r"8 to 64 .* got \d+ ") as refused:
        SiteState(tmp_path, name)
    assert refused.value.code == "run-name"
    assert len(name) < 3 or name not in refused.value.text
