"""The current run, in ``state/run.json``: commands request it, and the supervisor submits it."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig, make_config, read_toml
from fedtransfer.common.config.privacy_rules import refuse_undeclared
from fedtransfer.common.data.feature_card import card_of
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.wire.protocol import settings_digest
from fedtransfer.server.deployment import OF_SIMULATIONS
from fedtransfer.server.deployment.audit_log import (
    ENDED,
    RESUMED,
    STARTED,
    STOPPED,
    SUBMITTED,
    person,
    record,
)
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.enrolment import enrolled_sites
from fedtransfer.server.run_folder.folder import read_summary, settings_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


@dataclass
class Current:
    """A run and its status: ``wanted`` (to be submitted), ``running``, ``stopping``.

    After its end it is ``finished``, ``failed`` or ``stopped``.
    """

    name: str  # of its folder in ``runs/``
    settings: dict[str, Any]  # its run config, flat
    status: str = "wanted"
    why: str = ""  # it failed or was submitted again
    submissions: list[int] = field(default_factory=list)  # Flower's run ids, the newest last
    idle: int = 0  # submissions in a row that ended without a new checkpoint
    checkpoint: str = ""  # name of the newest checkpoint at its last submission
    progress: float = field(default_factory=time.time)  # Unix time of its request, or last new checkpoint
    not_before: float = 0.0  # Unix time of its next submission, after a pause

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
        return self.status in ("wanted", "running", "stopping")


def read_current(coordinator: Coordinator) -> Current | None:
    """Return the current run, None before the first one.

    Raises:
        UserError: the file is damaged.
    """
    path = coordinator.state / "run.json"
    try:
        return Current(**json.loads(path.read_text("utf-8"))) if path.exists() else None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: damaged ({error}); remove it, then go on with the run: fedtransfer server run --resume "
            "NAME"
        ) from None


@contextmanager
def edit_current(coordinator: Coordinator) -> Iterator[Current | None]:
    """Lock the current run while the body reads and changes it; write it at the end."""
    with FileLock(coordinator.state / "run.lock"):
        current = read_current(coordinator)
        status, submissions = (current.status, len(current.submissions)) if current else ("", 0)
        yield current
        if current:
            write_current(coordinator, current)
            _record_change(coordinator, status, submissions, current)


def _record_change(coordinator: Coordinator, status: str, submissions: int, current: Current) -> None:
    """Record what became of the run, after it is written: an event twice is worse than none."""
    if len(current.submissions) > submissions:
        record(coordinator, SUBMITTED, run=current.name, number=str(current.submissions[-1]))
    if current.status == "stopping" != status:
        record(coordinator, STOPPED, run=current.name, by=person())
    if not current.is_open and current.status != status:
        record(coordinator, ENDED, run=current.name, status=current.status, why=current.why)


def write_current(coordinator: Coordinator, current: Current) -> None:
    """Write the current run."""
    text = json.dumps(asdict(current), indent=2, ensure_ascii=False)
    write_whole(coordinator.state / "run.json", text + "\n")


def request_run(
    coordinator: Coordinator, config_file: Path | None, overrides: Mapping[str, Any], name: str = ""
) -> Current:
    """Request a new run. ``overrides`` replace settings of the file (default ``federation.toml``).

    Raises:
        UserError: another run is going on, no site is enrolled, or settings or name are invalid.
    """
    file = config_file or coordinator.folder / "federation.toml"
    settings = read_toml(file) if config_file or file.exists() else {}
    make_config(settings, f"config file {file}")
    settings = {**settings, **overrides}
    if foreign := sorted(set(settings) & {key.replace("_", "-") for key in OF_SIMULATIONS}):
        why = "here every site brings its own images, and site.toml has the rest"
        remedy = f"Leave {'it' if len(foreign) == 1 else 'them'} out"
        raise UserError(f"{', '.join(foreign)}: for simulations only; {why}. {remedy}")
    name = name or f"{datetime.now():%Y%m%d-%H%M%S}"
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name!r}: expected letters, digits, '.', '_' and '-'")
    folder = coordinator.folder / "runs" / name
    if folder.exists():
        resumption = f"go on with it: fedtransfer server run --resume {name}"
        raise UserError(f"{folder} exists already; choose another --name, or {resumption}")
    sites = len(enrolled_sites(coordinator))
    if not sites and "sites" not in settings:
        raise UserError(
            "no site is enrolled; enrol each with its public key: fedtransfer server enroll SITE.pub"
        )
    for key in ("backbone", "weights", "feature-statistics"):  # the ServerApp runs in another folder
        value = str(settings.get(key, ""))
        if value not in ("", BUNDLED, *KERAS_BACKBONES) and not card_of(value):
            settings[key] = str(Path(value).expanduser().resolve())
    fixed = {"data": "each site's own", "out": str(folder), "log-json": str(folder / "events.jsonl")}
    config = make_config({"sites": sites, **settings, **fixed}, "options")
    refuse_undeclared(config)
    return _request(coordinator, config, name, STARTED)


def resume_run(coordinator: Coordinator, name: str) -> Current:
    """Request that a stopped or failed run goes on from its last checkpoint.

    Raises:
        UserError: there is no such run, it is finished, or another run is going on.
    """
    folder = coordinator.folder / "runs" / name
    if not (folder / "config.toml").is_file():
        names = ", ".join(
            sorted(path.parent.name for path in (coordinator.folder / "runs").glob("*/config.toml"))
        )
        raise UserError(f"--resume {name}: no such run in {folder.parent}; its runs: {names or 'none'}")
    config = settings_of(folder)
    planned = read_summary(folder).get("rounds_planned", 0) if (folder / "summary.json").exists() else -1
    if planned >= config.training_rounds:
        raise UserError(f"--resume {name}: this run is finished; its result is in {folder}")
    return _request(coordinator, config, name, RESUMED)


def end_run(coordinator: Coordinator) -> str:
    """End the run in progress: at once if it was never submitted, else by the supervisor.

    Raises:
        UserError: no run is going on.
    """
    with edit_current(coordinator) as current:
        if not current or not current.is_open:
            raise UserError("no run is going on")
        if not current.submissions:
            current.status = "stopped"
            return f"run {current.name} is withdrawn; it had not begun"
        current.status = "stopping"
    return (
        f"run {current.name} will be stopped; go on with it: fedtransfer server run --resume {current.name}"
    )


def _request(coordinator: Coordinator, config: RunConfig, name: str, event: str) -> Current:
    with FileLock(coordinator.state / "run.lock"):
        current = read_current(coordinator)
        if current and current.is_open:
            ways = "wait for it (fedtransfer server status), or end it: fedtransfer server stop --run"
            raise UserError(f"run {current.name} is going on; {ways}")
        request = Current(name, config.to_flat())
        Path(config.out).mkdir(parents=True, exist_ok=True)
        digest = settings_digest(request.settings)
        record(coordinator, event, run=name, by=person(), settings=digest)
        write_current(coordinator, request)
    return request
