"""The coordinator's current run: ``state/run.json``, written by commands and by the supervisor."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.support.files import write_whole
from fedtransfer.server.deployment.coordinator import Coordinator

OPEN = ("wanted", "running", "stopping")


@dataclass
class Current:
    """A run and its status.

    Attributes:
        name: name of its folder in ``runs/``.
        settings: its run config, flat.
        status: ``wanted`` (to be submitted), ``running``, ``stopping``, or after its end
            ``finished``, ``failed`` or ``stopped``.
        why: the reason, if it failed or was submitted again.
        submissions: Flower's run ids, the newest last.
        idle: submissions in a row that ended without a new checkpoint.
        checkpoint: name of the newest checkpoint at its last submission.
    """

    name: str
    settings: dict[str, Any]
    status: str = "wanted"
    why: str = ""
    submissions: list[int] = field(default_factory=list)
    idle: int = 0
    checkpoint: str = ""

    @property
    def config(self) -> RunConfig:
        """The settings, checked."""
        return make_config(self.settings, "run.json")

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.out)

    @property
    def is_open(self) -> bool:
        """Whether the supervisor still has to bring it to its end."""
        return self.status in OPEN


def read_current(coordinator: Coordinator) -> Current | None:
    """Return the current run, None before the first one."""
    path = _path(coordinator)
    return Current(**json.loads(path.read_text("utf-8"))) if path.exists() else None


@contextmanager
def edit_current(coordinator: Coordinator) -> Iterator[Current | None]:
    """Lock the current run while the body reads and changes it; write it at the end."""
    with FileLock(coordinator.state / "run.lock"):
        current = read_current(coordinator)
        yield current
        if current:
            write_current(coordinator, current)


def write_current(coordinator: Coordinator, current: Current) -> None:
    """Write the current run."""
    write_whole(_path(coordinator), json.dumps(asdict(current), indent=2, ensure_ascii=False) + "\n")


def _path(coordinator: Coordinator) -> Path:
    return coordinator.state / "run.json"
