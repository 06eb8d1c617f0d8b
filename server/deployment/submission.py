"""``fedtransfer server run``: from settings to a current run, which the supervisor submits."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig, make_config, read_toml
from fedtransfer.common.config.privacy_rules import refuse_undeclared
from fedtransfer.common.errors import UserError
from fedtransfer.server.deployment import OF_SIMULATIONS
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import Current, edit_current, read_current, write_current
from fedtransfer.server.deployment.enrolment import enrolled_sites
from fedtransfer.server.run_folder.folder import read_summary, settings_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


def request_run(
    coordinator: Coordinator, config_file: Path | None, overrides: Mapping[str, Any], name: str = ""
) -> Current:
    """Request a new run. ``overrides`` replace settings of the file (default ``federation.toml``).

    Raises:
        UserError: another run is going on, no site is enrolled, or the settings or the name are
            invalid.
    """
    file = config_file or coordinator.folder / "federation.toml"
    settings = read_toml(file) if config_file or file.exists() else {}
    make_config(settings, f"config file {file}")
    settings = {**settings, **overrides}
    if foreign := sorted(set(settings) & {key.replace("_", "-") for key in OF_SIMULATIONS}):
        raise UserError(
            f"{', '.join(foreign)}: for simulations only; here every site brings its own images, and "
            f"site.toml has the rest. Leave {'it' if len(foreign) == 1 else 'them'} out"
        )
    name = name or f"{datetime.now():%Y%m%d-%H%M%S}"
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name!r}: expected letters, digits, '.', '_' and '-'")
    folder = coordinator.folder / "runs" / name
    if folder.exists():
        raise UserError(
            f"{folder} exists already; choose another --name, or go on with it: fedtransfer server run --resume {name}"
        )
    sites = len(enrolled_sites(coordinator))
    if not sites and "sites" not in settings:
        raise UserError("no site is enrolled; enrol each with its public key: fedtransfer server enroll SITE.pub")
    for key in ("backbone", "weights", "feature-statistics"):  # the ServerApp runs in another folder
        if str(settings.get(key, "")) not in ("", BUNDLED, *KERAS_BACKBONES):
            settings[key] = str(Path(settings[key]).expanduser().resolve())
    fixed = {"data": "each site's own", "out": str(folder), "log-json": str(folder / "events.jsonl")}
    config = make_config({"sites": sites, **settings, **fixed}, "options")
    refuse_undeclared(config)
    return _request(coordinator, config, name)


def resume_run(coordinator: Coordinator, name: str) -> Current:
    """Request that a stopped or failed run goes on from its last checkpoint.

    Raises:
        UserError: there is no such run, it is finished, or another run is going on.
    """
    folder = coordinator.folder / "runs" / name
    if not (folder / "config.toml").is_file():
        names = ", ".join(sorted(path.parent.name for path in (coordinator.folder / "runs").glob("*/config.toml")))
        raise UserError(f"--resume {name}: no such run in {folder.parent}; its runs: {names or 'none'}")
    config = settings_of(folder)
    planned = read_summary(folder).get("rounds_planned", 0) if (folder / "summary.json").exists() else -1
    if planned >= config.training_rounds:
        raise UserError(f"--resume {name}: this run is finished; its result is in {folder}")
    return _request(coordinator, config, name)


def end_run(coordinator: Coordinator) -> str:
    """End the run in progress, at once if it was never submitted, else by the supervisor; say which.

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
    return f"run {current.name} will be stopped; go on with it: fedtransfer server run --resume {current.name}"


def _request(coordinator: Coordinator, config: RunConfig, name: str) -> Current:
    with FileLock(coordinator.state / "run.lock"):
        current = read_current(coordinator)
        if current and current.is_open:
            raise UserError(
                f"run {current.name} is going on; wait for it (fedtransfer server status), or end it: "
                "fedtransfer server stop --run"
            )
        request = Current(name, config.to_flat())
        Path(config.out).mkdir(parents=True, exist_ok=True)
        write_current(coordinator, request)
    return request
