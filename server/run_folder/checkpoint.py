"""Checkpoints: a run's progress, one file per round. After a kill at any moment one is complete.

They are in ``checkpoints/``, in the format of ``fedtransfer.common.support.files``: NumPy
arrays and a JSON text. Only the newest two remain. During a run ``Writer`` writes the checkpoint of
a round while the next round trains.
"""

import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig, Value, without_retired
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import read_round, round_files, write_round
from fedtransfer.server.rounds.progress import Candidate, Progress
from fedtransfer.server.sites.cohort import FailureRecord
from fedtransfer.server.strategies.strategy import State

log = logging.getLogger(__name__)

VERSION = 2
KEEP = 2
# Settings that may differ between a run and its resumption: they do not change what is computed.
FREE = {
    "rounds", "early-stopping", "threads", "out", "store", "engine", "resume", "log-json", "callbacks",
    "join-timeout", "round-timeout", "round-retries", "ray-address", "client-cpus", "client-gpus",
    "prepared", "baselines", "models", "personal-epochs",
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path  # of the checkpoints
    config: RunConfig
    fingerprint: str  # of the backbone
    classes: tuple[str, ...]

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, then remove all but the newest two.

        Raises:
            UserError: it cannot be written; earlier checkpoints are unchanged.
        """
        self.write(progress.round, self.content(progress))

    def content(self, progress: Progress) -> dict[str, NDArray[Any]]:
        """Return a checkpoint's arrays by name: copies, for the run goes on with its own."""
        copies = {name: np.array(array) for name, array in _arrays(progress).items()}
        return {"meta": np.array(json.dumps(self._meta(progress))), **copies}

    def write(self, round: int, content: Mapping[str, NDArray[Any]]) -> None:
        """Do what ``save`` does, for the content of a checkpoint."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_round(self.folder, round, content)
        except OSError as error:
            last = self._files()[-1].name if self._files() else "none"
            raise UserError(
                f"checkpoint {self.folder / f'round-{round:06}'}: cannot be written: "
                f"{error.strerror}; the last good one is {last}. Make room and resume the run"
            ) from None
        for old in self._files()[:-KEEP]:
            old.unlink(missing_ok=True)

    def latest(self) -> Progress | None:
        """Read the newest checkpoint; return None if there is none yet.

        Raises:
            UserError: it is damaged, or belongs to another run.
        """
        files = self._files()
        if not files:
            return None
        arrays = read_round(files[-1])
        if arrays is None:
            damage = f"checkpoint {files[-1]} is damaged (its content does not match the hash in its name)"
            if len(files) == 1:
                raise UserError(f"{damage}; there is no other, so start the run again with --force")
            last = f"the last good one is {files[-2].name}"
            raise UserError(f"{damage}; {last}: remove the damaged file to go on from there")
        meta = json.loads(str(arrays.pop("meta")))
        self._refuse_foreign(files[-1], meta)
        return _progress(meta, arrays)

    def _files(self) -> list[Path]:
        return [path for _, path in round_files(self.folder)]

    def _meta(self, progress: Progress) -> dict[str, Any]:
        best, record = progress.best, progress.failure_record
        return {
            "version": VERSION, "settings": self._settings(), "fingerprint": self.fingerprint,
            "classes": self.classes, "round": progress.round, "best": [best.loss, best.round, best.trainable],
            "trainable": progress.trainable, "run": progress.run, "chosen": dict(progress.one_shot),
            "counted": dict(progress.counted), "early stopping": [progress.reference, progress.waited],
            "failures": dict(record.failures), "back": dict(record.back), "update norm": progress.update_norm,
        }  # fmt: skip

    def _settings(self) -> dict[str, Value]:
        config = self.config
        # With other rounds, learning rates would differ, or the noise computed for their number.
        fixed = config.schedule != "constant" or (config.private and not config.noise_multiplier)
        free = FREE - {"rounds"} if fixed else FREE
        return {key: value for key, value in config.to_flat().items() if key not in free}

    def _refuse_foreign(self, path: Path, meta: Mapping[str, Any]) -> None:
        if meta.get("version") != VERSION:
            formats = f"has format {meta.get('version')!r}, this fedtransfer reads {VERSION}"
            raise UserError(f"checkpoint {path} {formats}; resume with the version that wrote it")
        current = {**self._settings(), "fingerprint": self.fingerprint, "class names": list(self.classes)}
        # A setting that the writing version did not have yet was at its default.
        defaults = {key: value for key, value in RunConfig().to_flat().items() if key in current}
        former = defaults | without_retired(meta["settings"], str(path))
        former |= {"fingerprint": meta["fingerprint"], "class names": meta["classes"]}
        differences = [
            f"{key} was {former.get(key)!r} and is {current.get(key)!r}"
            for key in sorted(current.keys() | former.keys())
            if current.get(key) != former.get(key)
        ]
        if differences:
            remedy = "Resume with the settings that the run began with, or start another run"
            raise UserError(f"checkpoint {path} belongs to another run: {'; '.join(differences)}. {remedy}")


class Writer:
    """Writes checkpoints in a thread of its own, one at a time, while the run goes on.

    A kill while a checkpoint is written leaves that of the round before. As a context it has
    written the last one when it ends, whatever ends it.

    Args:
        checkpoints: those of the run.
        before: called in the thread before a checkpoint is written.
    """

    def __init__(self, checkpoints: Checkpoints, before: Callable[[], None] = lambda: None) -> None:
        self._checkpoints, self._before = checkpoints, before
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    def save(self, progress: Progress) -> None:
        """Begin to write a checkpoint, once the one before is on the disk; errors as ``flush``."""
        content = self._checkpoints.content(progress)
        self.flush()
        self._writing = self._thread.submit(self._write, progress.round, content)

    def flush(self) -> None:
        """Return when the last checkpoint is on the disk.

        Raises:
            UserError: it could not be written; earlier checkpoints are unchanged.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush. An error of the run goes before one of its last checkpoint, which is logged."""
        self._thread.shutdown()
        try:
            self.flush()
        except UserError as unwritten:
            if error is None:
                raise
            log.warning("%s", unwritten)

    def _write(self, round: int, content: Mapping[str, NDArray[Any]]) -> None:
        self._before()
        self._checkpoints.write(round, content)


def _arrays(progress: Progress) -> dict[str, Any]:
    named: dict[str, Any] = {f"head/{i}": array for i, array in enumerate(progress.state.head)}
    named |= {f"best/{i}": array for i, array in enumerate(progress.best.head)}
    for kind, groups in (("slot", progress.state.slots), ("kept", progress.arrays)):
        for name, arrays in groups.items():
            named |= {f"{kind}/{name}/{i}": array for i, array in enumerate(arrays)}
    return named


def _progress(meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> Progress:
    def group(prefix: str) -> tuple[Any, ...]:
        number = sum(name.startswith(f"{prefix}/") for name in arrays)
        return tuple(arrays[f"{prefix}/{i}"] for i in range(number))

    def groups(kind: str) -> dict[str, tuple[Any, ...]]:
        names = sorted({name.split("/")[1] for name in arrays if name.startswith(f"{kind}/")})
        return {name: group(f"{kind}/{name}") for name in names}

    loss, best_round, layer = meta["best"]
    reference, waited = meta["early stopping"]
    state, best = State(group("head"), groups("slot")), Candidate(loss, best_round, group("best"), layer)
    return Progress(
        round=meta["round"], state=state, best=best, reference=reference, waited=waited,
        failure_record=FailureRecord(meta["failures"], meta["back"]), trainable=meta["trainable"],
        run=meta["run"], arrays=groups("kept"), one_shot=meta["chosen"], counted=meta["counted"],
        update_norm=meta.get("update norm", 0.0),  # older versions bounded no norm
    )  # fmt: skip
