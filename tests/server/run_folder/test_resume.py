"""Checkpoints and resumption: kills at random moments, damaged files, foreign runs, full disks."""

import errno
import json
import os
import re
from dataclasses import fields, replace
from pathlib import Path

import forked
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import patient

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import read_round, write_round
from fedtransfer.server.rounds.progress import Candidate, Progress
from fedtransfer.server.run_folder.checkpoint import Checkpoints
from fedtransfer.server.sites.cohort import FailureRecord
from fedtransfer.server.strategies.strategy import State

HEAD = (np.ones((4, 3), np.float32), np.zeros(3, np.float32))


def progress(round: int = 1, seed: int = 0) -> Progress:
    rng = np.random.default_rng(seed)
    state = State(HEAD, {"velocity": tuple(rng.normal(size=array.shape) for array in HEAD)})
    best = Candidate(0.1 + 0.2, 1, tuple(array + 1 for array in HEAD), "head")
    kept = {
        "moments": tuple(rng.normal(size=(2, 5))),  # float64
        "first": tuple(array - 1 for array in HEAD),
        "many": tuple(rng.normal(size=(12, 7)).astype(np.float32)),  # more than ten: 10 comes after 9
    }
    return Progress(
        round, state, best, 1 / 3, 2, FailureRecord({"anna": 3, "Łódź 2": 1}, {"anna": 9}),
        "conv5_block2", "0123456789abcdef", kept,
        {"ridge": 0.1 + 0.2, "factor": 0.25}, {"anna": 7, "Łódź 2": 1}, 0.7,
    )  # fmt: skip


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", RunConfig(), "f" * 64, ("a", "b", "c"))


def same(a: Progress, b: Progress) -> bool:
    def arrays(p: Progress) -> dict[str, tuple]:
        groups = {"head": p.state.head, "best": p.best.head}
        groups |= {f"slot {name}": slot for name, slot in p.state.slots.items()}
        return groups | {f"kept {name}": kept for name, kept in p.arrays.items()}

    one, other = arrays(a), arrays(b)
    rest = [replace(p, state=None, arrays={}, best=replace(p.best, head=())) for p in (a, b)]
    return (
        rest[0] == rest[1]
        and one.keys() == other.keys()
        and all(
            x.dtype == y.dtype and np.array_equal(x, y)
            for name in one
            for x, y in zip(one[name], other[name], strict=True)
        )
    )


@given(st.integers(0, 10**6))
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path_factory, seed: int) -> None:
    kept = Checkpoints(tmp_path_factory.mktemp("c"), RunConfig(), "f" * 64, ("a", "b", "c"))
    assert kept.latest() is None
    kept.save(progress(seed=seed))
    assert same(kept.latest(), progress(seed=seed))


def test_what_a_checkpoint_must_bring_back_is_all_there_is(checkpoints: Checkpoints) -> None:
    """A field added to the progress and not to the checkpoint would come back at its default."""
    checkpoints.save(progress())
    found = checkpoints.latest()
    defaults = Progress(0, State(HEAD, {}), Candidate(np.inf, 0, HEAD))
    for name in (field.name for field in fields(Progress)):
        if name not in ("round", "state", "best"):
            assert getattr(found, name) != getattr(defaults, name), name
    assert found.run == "0123456789abcdef"
    assert found.trainable == "conv5_block2"
    assert found.counted == {"anna": 7, "Łódź 2": 1}
    assert found.one_shot == {"ridge": 0.1 + 0.2, "factor": 0.25}


@given(st.integers(0, 10**6))
def test_changed_progress_is_told_apart(seed: int) -> None:
    """So the comparison above sees what a checkpoint would lose."""
    one, other = progress(seed=seed), progress(seed=seed + 1)
    for change in (
        {"run": "f" * 16}, {"counted": {"anna": 6}}, {"one_shot": {}}, {"trainable": "head"},
        {"arrays": {}}, {"arrays": {**one.arrays, "first": HEAD}},
        {"arrays": {**one.arrays, "moments": other.arrays["moments"]}},
    ):  # fmt: skip
        assert not same(one, replace(one, **change)), change


def test_other_rounds_are_refused_where_rates_follow_from_them(checkpoints: Checkpoints) -> None:
    falling = replace(checkpoints, config=RunConfig(schedule="cosine", rounds=20))
    falling.save(progress())
    assert same(falling.latest(), progress())
    with pytest.raises(UserError, match=r"rounds was 20 and is 30\."):
        replace(falling, config=RunConfig(schedule="cosine", rounds=30)).latest()
    with pytest.raises(UserError, match="rounds was 20 and is None; schedule was 'cosine' and is 'constant'"):
        replace(falling, config=RunConfig(rounds=20)).latest()
    checkpoints.save(progress(2))
    assert replace(checkpoints, config=RunConfig(rounds=7)).latest().round == 2


def test_other_rounds_are_refused_where_the_noise_was_found_for_them(checkpoints: Checkpoints) -> None:
    private = {
        "dp": "site",
        "weighting": "uniform",
        "classes": "declared",
        "class_names": "a,b,c",
        "rounds": 20,
    }
    found = replace(checkpoints, config=RunConfig(**private, epsilon=2.0))
    found.save(progress())
    with pytest.raises(UserError, match="rounds was 20 and is 30"):
        replace(found, config=RunConfig(**{**private, "rounds": 30}, epsilon=2.0)).latest()
    given = replace(checkpoints, config=RunConfig(**private, epsilon=2.0, noise_multiplier=9.0))
    given.save(progress(2))
    assert replace(
        given, config=RunConfig(**{**private, "rounds": 30}, epsilon=2.0, noise_multiplier=9.0)
    ).latest()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"init": "fed3r"}, "init was 'zeros' and is 'fed3r'"),
        ({"standardise": "federated"}, "standardise was 'centre' and is 'federated'"),
        ({"unfreeze_at": "50:conv5"}, "unfreeze-at was '' and is '50:conv5'"),
        ({"strategy": "scaffold"}, "strategy was 'fedavg' and is 'scaffold'"),
        ({"class_balance": 0.9}, "class-balance was 0.0 and is 0.9"),
    ],
)
def test_what_a_checkpoint_was_not_made_for_is_refused(
    checkpoints: Checkpoints, settings: dict, words: str
) -> None:
    checkpoints.save(progress())
    with pytest.raises(UserError, match=f"belongs to another run: {words}"):
        replace(checkpoints, config=RunConfig(**settings)).latest()
    assert replace(checkpoints, config=RunConfig(personal_epochs=3, baselines=False)).latest() is not None


def test_a_checkpoint_of_an_earlier_version_is_read_if_its_further_settings_have_their_defaults(
    checkpoints: Checkpoints,
) -> None:
    def saved_with(**further: float) -> Checkpoints:
        for earlier in checkpoints.folder.glob("round-*"):
            earlier.unlink()
        checkpoints.save(progress())
        [path] = checkpoints.folder.iterdir()
        arrays = read_round(path)
        assert arrays is not None
        meta = json.loads(str(arrays["meta"]))
        meta["settings"] |= further
        path.unlink()
        write_round(checkpoints.folder, 1, {**arrays, "meta": np.array(json.dumps(meta))})
        return checkpoints

    assert same(saved_with(ema=0.0, interpolate=False).latest(), progress())
    with pytest.raises(UserError, match="ema: no setting of this version"):
        saved_with(ema=0.5).latest()


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
    with pytest.raises(UserError, match=rf"{re.escape(str(bad))} is damaged .* {good.name}: "):
        checkpoints.latest()
    bad.unlink()
    assert checkpoints.latest().round == 4
    good.write_bytes(b"")
    with pytest.raises(UserError, match=r"is damaged .* --force"):
        checkpoints.latest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"config": RunConfig(learning_rate=2.0, seed=3)},
            "learning-rate was 4.0 and is 2.0; seed was 0 and is 3",
        ),
        ({"fingerprint": "0" * 64}, "fingerprint was 'ffff"),
        ({"classes": ("a", "b")}, r"class names was \['a', 'b', 'c'\] and is \['a', 'b'\]"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(checkpoints: Checkpoints, change: dict, words: str) -> None:
    checkpoints.save(progress())
    with pytest.raises(UserError, match=rf"belongs to another run: {words}"):
        replace(checkpoints, **change).latest()
    assert replace(checkpoints, config=RunConfig(rounds=500, threads=3)).latest() is not None


def test_a_setting_that_an_older_version_did_not_have_was_at_its_default(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Checkpoints._settings
    with monkeypatch.context() as older:
        older.setattr(
            Checkpoints, "_settings", lambda self: {k: v for k, v in whole(self).items() if k != "fit"}
        )
        checkpoints.save(progress())
    assert checkpoints.latest() is not None
    with pytest.raises(UserError, match="fit was 'crop' and is 'pad'"):
        replace(checkpoints, config=RunConfig(fit="pad")).latest()


def test_a_full_disk_leaves_the_checkpoints_before(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(progress(4))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"round-000005.*No space left on device; .* round-000004"):
        checkpoints.save(progress(5))
    assert [path.name[:12] for path in checkpoints.folder.iterdir()] == ["round-000004"]
    assert checkpoints.latest().round == 4


def soak(*words: str) -> str:
    """Kill and resume runs as ``python tests/kill_and_resume.py WORDS`` does; return its words."""
    tests = Path(__file__).resolve().parents[2]
    code = f"import runpy; runpy.run_path({str(tests / 'kill_and_resume.py')!r}, run_name='__main__')"
    done = forked.run("-c", code, *words, env={**os.environ, "PYTHONPATH": str(tests)}, seconds=patient(240))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.process
@pytest.mark.run
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.full)])
def test_killed_and_resumed_runs_end_bit_equal(kills: int) -> None:
    assert f"{kills} kills, all resumed to the same bits" in soak(str(kills))


@pytest.mark.process
@pytest.mark.run
@pytest.mark.full
def test_killed_private_runs_keep_every_charge() -> None:
    assert "6 kills, every charge kept" in soak("6", "private")
