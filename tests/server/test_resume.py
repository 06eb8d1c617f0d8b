"""Checkpoints and resumption: kills at random moments, damaged files, foreign runs, full disks."""

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import RunConfig
from common.errors import UserError
from server.checkpoint import Checkpoints
from server.progress import Candidate, Progress
from server.standing import Standing
from server.strategies.state import State

HEAD = (np.ones((4, 3), np.float32), np.zeros(3, np.float32))


def progress(round: int = 1, seed: int = 0) -> Progress:
    rng = np.random.default_rng(seed)
    state = State(HEAD, {"velocity": tuple(rng.normal(size=array.shape) for array in HEAD)})
    best = Candidate(0.1 + 0.2, 1, tuple(array + 1 for array in HEAD))
    return Progress(round, state, best, 1 / 3, 2, Standing({"anna": 3, "Łódź 2": 1}, {"anna": 9}))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", RunConfig(), "f" * 64, ("a", "b", "c"))


def same(a: Progress, b: Progress) -> bool:
    arrays = [
        (x, y)
        for one, two in ((a.state.head, b.state.head), (a.best.head, b.best.head), *zip(a.state.slots.values(), b.state.slots.values(), strict=True))
        for x, y in zip(one, two, strict=True)
    ]  # fmt: skip
    rest = [replace(p, state=None, best=replace(p.best, head=())) for p in (a, b)]
    return rest[0] == rest[1] and all(x.dtype == y.dtype and (x == y).all() for x, y in arrays)


@given(st.integers(0, 10**6))
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path_factory, seed: int) -> None:
    kept = Checkpoints(tmp_path_factory.mktemp("c"), RunConfig(), "f" * 64, ("a", "b", "c"))
    assert kept.latest() is None
    kept.save(progress(seed=seed))
    assert same(kept.latest(), progress(seed=seed))


def test_the_newest_two_are_kept(checkpoints: Checkpoints) -> None:
    for round in (9, 10, 11, 999_999, 1_000_000):
        checkpoints.save(progress(round))
    names = sorted(path.name[:14] for path in checkpoints.folder.iterdir())
    assert len(names) == 2
    assert checkpoints.latest().round == 1_000_000


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_last_good_one_offered(
    checkpoints: Checkpoints, damage: str
) -> None:
    checkpoints.save(progress(4))
    checkpoints.save(progress(5))
    good, bad = sorted(checkpoints.folder.iterdir())
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes({"cut": content[:-7], "flip": content, "empty": b""}[damage])
    with pytest.raises(
        UserError, match=rf"{re.escape(str(bad))} is damaged .*the last good one is {good.name}: remove"
    ):
        checkpoints.latest()
    bad.unlink()
    assert checkpoints.latest().round == 4
    good.write_bytes(b"")
    with pytest.raises(UserError, match=r"is damaged .*there is no other, so start the run anew with --force"):
        checkpoints.latest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": RunConfig(learning_rate=2.0, seed=3)}, "learning-rate was 4.0 and is 2.0; seed was 0 and is 3"),
        ({"fingerprint": "0" * 64}, "fingerprint was 'ffff"),
        ({"classes": ("a", "b")}, r"class names was \['a', 'b', 'c'\] and is \['a', 'b'\]"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(checkpoints: Checkpoints, change: dict, words: str) -> None:
    checkpoints.save(progress())
    with pytest.raises(UserError, match=rf"belongs to another run: {words}"):
        replace(checkpoints, **change).latest()
    assert replace(checkpoints, config=RunConfig(rounds=500, threads=3)).latest() is not None


def test_a_full_disk_leaves_the_checkpoints_before(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(progress(4))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"round-000005.*No space left on device; the last good one is round-000004"):
        checkpoints.save(progress(5))
    assert [path.name[:12] for path in checkpoints.folder.iterdir()] == ["round-000004"]
    assert checkpoints.latest().round == 4


@pytest.mark.slow
def test_killed_and_resumed_runs_end_bit_equal() -> None:
    script = Path(__file__).resolve().parents[1] / "kill_and_resume.py"
    done = subprocess.run([sys.executable, script, "20"], capture_output=True, text=True, timeout=900)
    assert "20 kills, all resumed to the same bits" in done.stdout, done.stdout + done.stderr
