"""Kill runs with SIGKILL at random moments, resume them, and compare every bit of what they leave.

    python tests/kill_and_resume.py 200
    python tests/kill_and_resume.py 50 private

A worker is forked for each start, so that TensorFlow is imported once. A run is killed one to three
times, then left to end. A third of the runs are plain FedAvg, a third FedAdam with partial
participation, a third SCAFFOLD, whose sites keep a state by round. Half of the workers have a slow
disk, so that a kill often falls into a round whose predecessor's checkpoint is still being written.

Private runs do not repeat in bits: what was charged stays so, and is charged first.
"""

import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from waiting import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fedtransfer.client.app import app as client_app
from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image, content_key
from fedtransfer.common.data.sources import write_manifest
from fedtransfer.common.features.extraction import open_store
from fedtransfer.common.support.files import write_round
from fedtransfer.common.tensorflow import keras
from fedtransfer.server.app import make_app
from fedtransfer.server.run_folder import checkpoint
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process

SITES, IMAGES, WIDTH, ROUNDS = 6, 40, 64, 40
STRATEGIES = {
    "fedavg": {"strategy": "fedavg"},
    "fedadam": {"strategy": "fedadam", "fraction": 0.5, "server_learning_rate": 0.05, "early_stopping": 1000},
    "scaffold": {"strategy": "scaffold", "fraction": 0.5},
}
SLOW = 0.01  # seconds for a checkpoint on a slow disk; a round takes less

PRIVATE = {
    "strategy": "fedavg", "dp": "site", "noise_multiplier": 1.0, "weighting": "uniform",
    "sampling": "poisson", "fraction": 0.5, "classes": "declared", "class_names": "0,1,2,3",
}  # fmt: skip


def fork(work: Callable[[], object], log: Path) -> int:
    """Do some work in a forked process whose errors go to a file; return its process id."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    code = 1
    try:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        work()
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def prepare(root: Path) -> None:
    """Make backbone, features and manifests in another process: no TensorFlow before a fork."""
    finish(fork(partial(_prepare, root), root / "worker.log"), root / "worker.log")


def _prepare(root: Path) -> None:
    pixels = keras.Input((32, 32, 3))
    wide = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(WIDTH, 1)(pixels))
    keras.Model(pixels, wide).save(root / "wide.keras")
    store = open_store(load_backbone(str(root / "wide.keras")), str(root / "store"))
    for k in range(SITES):
        rng = np.random.default_rng(k)
        y = rng.integers(0, 4, IMAGES)
        stand_ins = rng.integers(0, 256, (IMAGES, 2, 2, 3), np.uint8)
        np.savez(root / f"{k}.npz", x_train=stand_ins, y_train=y)
        features = rng.normal(size=(IMAGES, WIDTH)) + 3 * np.eye(4, WIDTH)[y]
        store.add([content_key(image) for image in stand_ins], features.astype(np.float32))
        write_manifest(
            root / f"{k}.csv", [Image(f"{root / str(k)}.npz#x_train/{i}", str(y[i])) for i in range(IMAGES)]
        )


def start(root: Path, out: Path, settings: dict[str, object], *, resume: bool, delay: float = 0.0) -> int:
    """Fork a worker that runs the federation into ``out``; return its process id.

    ``delay``: seconds that its disk takes for a checkpoint.
    """

    def work() -> None:
        checkpoint.write_round = lambda *round: (time.sleep(delay), write_round(*round))[1]
        config = RunConfig(
            data="soak", sites=SITES, rounds=ROUNDS, backbone=str(root / "wide.keras"),
            store=str(root / "store"), out=str(out), resume=resume, learning_rate=0.5, **settings,
        )  # fmt: skip
        sites = [
            SimulatedSite(f"site-{k}", {"data": str(root / f"{k}.csv"), "state": str(out / f"state-{k}")})
            for k in range(SITES)
        ]
        run_in_process(make_app(), client_app, sites, config.to_flat(), 2)

    return fork(work, root / "worker.log")


def finish(child: int, log: Path) -> None:
    """Wait for a worker that must end well."""
    _, status = os.waitpid(child, 0)
    if status:
        said = "\n".join(log.read_text().splitlines()[-20:])
        raise SystemExit(f"a worker ended with status {status}; the end of what workers said:\n{said}")


def traces(out: Path) -> dict[str, object]:
    """Everything that must be the same after kills and resumptions; wall times are left out."""
    summary = json.loads((out / "summary.json").read_text())
    summary.pop("seconds")
    history = [row[:-2] for row in csv.reader((out / "history.csv").open())]
    heads = {name: (out / name).read_bytes() for name in ("head.npz", "last-head.npz")}
    return {"summary": summary, "history": history, "sites": (out / "sites.csv").read_text(), **heads}


def soak(kills: int, seed: int = 0) -> Counter[str]:
    """Kill this many times; return how often a kill fell into which stage of a run.

    Raises:
        SystemExit: a resumed run left something else than an undisturbed one.
    """
    rng, stages = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root)
        expected, seconds = {}, {}
        for name, settings in STRATEGIES.items():
            began = time.monotonic()
            finish(start(root, root / name, settings, resume=False), root / "worker.log")
            seconds[name] = time.monotonic() - began
            expected[name] = traces(root / name)
        done = 0
        while done < kills:
            name = rng.choice(list(STRATEGIES))
            out = root / "killed"
            shutil.rmtree(out, ignore_errors=True)
            for attempt in range(rng.randint(1, 3)):
                delay = rng.choice([0.0, SLOW])
                child = start(root, out, STRATEGIES[name], resume=attempt > 0, delay=delay)
                if rng.random() < 0.5:  # at any moment …
                    time.sleep(rng.uniform(0, 1.05 * seconds[name]))
                else:  # … or within the rounds, which are a small part of so short a run
                    _wait_for_round(out, rng.randint(1, ROUNDS), child)
                    time.sleep(rng.uniform(0, 0.02))
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                if status == 0 or done == kills:
                    break
                done += 1
                stages[_stage(out)] += 1
            if not (out / "summary.json").exists():
                finish(start(root, out, STRATEGIES[name], resume=True), root / "worker.log")
            found = traces(out)
            if differing := [key for key in found if found[key] != expected[name][key]]:
                for key in differing:
                    print(
                        f"{key}: undisturbed {expected[name][key]!r}\n  resumed {found[key]!r}",
                        file=sys.stderr,
                    )
                raise SystemExit(
                    f"{name}, after {done} kills: {', '.join(differing)} differ from an undisturbed run"
                )
    return stages


def soak_private(kills: int, seed: int = 0) -> Counter[str]:
    """Kill private runs this many times; return how often a kill fell into which stage.

    Raises:
        SystemExit: a charge was lost, or a round was finished that had not been charged.
    """
    rng, stages, done = random.Random(seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root)
        while done < kills:
            out, charged = root / "killed", []
            shutil.rmtree(out, ignore_errors=True)
            for attempt in range(rng.randint(1, 3)):
                delay = rng.choice([0.0, SLOW])
                child = start(root, out, PRIVATE, resume=attempt > 0, delay=delay)
                _wait_for_round(out, rng.randint(1, ROUNDS - 1), child)
                time.sleep(rng.uniform(0, 0.02))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                if (out / "summary.json").exists():
                    break
                done, before, charged = done + 1, charged, charges(out)
                finished = max(int(path.name[6:12]) for path in (out / "checkpoints").glob("round-*"))
                stages[
                    "between charge and checkpoint" if charged[-1] > finished else "after a checkpoint"
                ] += 1
                if charged[: len(before)] != before or set(range(1, finished + 1)) - set(charged):
                    raise SystemExit(f"charged {before}, then {charged}, with {finished} rounds finished")
            if not (out / "summary.json").exists():
                finish(start(root, out, PRIVATE, resume=True), root / "worker.log")
            before, charged = charged, charges(out)
            told = json.loads((out / "summary.json").read_text())["privacy"]
            whole = set(charged) == set(range(1, ROUNDS + 1)) and told["rounds_charged"] == len(charged)
            if charged[: len(before)] != before or not whole:
                raise SystemExit(f"charged {charged}, and the summary says {told}")
    return stages


def charges(out: Path) -> list[int]:
    """The rounds that a ledger says were charged, in order."""
    return [json.loads(line)["round"] for line in (out / "run-privacy.jsonl").read_text().splitlines()]


def _wait_for_round(out: Path, number: int, child: int) -> None:
    """Wait until a round is in a checkpoint, or the worker has ended."""
    reached = lambda: any(int(path.name[6:12]) >= number for path in (out / "checkpoints").glob("round-*"))  # noqa: E731
    ended = lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None  # noqa: E731
    wait_until(lambda: reached() or ended(), f"round {number} is in a checkpoint")


def _stage(out: Path) -> str:
    if (out / "summary.json").exists():
        return "after the summary"
    if any((out / "checkpoints").glob(".writing-*")):
        return "while a checkpoint was written"
    if (out / "last-head.npz").exists():
        return "while models were exported"
    rounds = sorted((out / "checkpoints").glob("round-*")) if (out / "checkpoints").exists() else []
    if not rounds:
        return "before the first checkpoint"
    return "after the last round" if int(rounds[-1].name[6:12]) == ROUNDS else "between checkpoints"


if __name__ == "__main__":
    began = time.monotonic()
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    private = sys.argv[2:] == ["private"]
    for stage, times in (soak_private if private else soak)(number).most_common():
        print(f"{times:4} kills {stage}")
    kept = "every charge kept" if private else "all resumed to the same bits"
    print(f"{number} kills, {kept}, {time.monotonic() - began:.0f} s")
