"""The run folder: everything needed to read, use, repeat and resume a run.

config.toml    the resolved config            history.csv  a row for each attempt at a round
summary.json   the scores at the end          sites.csv    a row for each site of an attempt
model.keras    image in, probabilities out    head.npz     the head's arrays
last-model.keras, last-head.npz               the same after the last round
curves.png     accuracy and loss by round     tensorboard/ the same as events
checkpoints/   the newest two                 sites/NAME/  files of each simulated site
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedtransfer.common.config.config import RunConfig, read_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import is_empty, write_whole
from fedtransfer.common.support.text import plain


def open_folder(path: Path, config: RunConfig) -> FileLock:
    """Make a run folder, or open it with ``config.resume``; return the lock that excludes others.

    Raises:
        UserError: the folder holds a run that is not to be resumed, is finished, or is in use.
    """
    begun, finished = (path / "history.csv").exists(), (path / "summary.json").exists()
    if begun and not config.resume:
        ways = "resume it, choose another --out, or give --force to replace it"
        raise UserError(f"run folder {path} already holds a run; {ways}")
    if finished and config.closed_form:
        raise UserError(f"{path}: this run is finished; a one-shot head has no further rounds")
    if finished and config.rounds <= read_summary(path).get("rounds_planned", 0):
        raise UserError(
            f"{path}: this run is finished; to go on with it, give more --rounds than {config.rounds}"
        )
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / "checkpoints" / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{path}: another process is working on this run; wait for it, or stop it") from None
    except OSError as error:
        raise UserError(
            f"run folder {path}: cannot be made: {error.strerror}; choose another --out"
        ) from None
    write_settings(path, config)
    return lock


def write_settings(path: Path, config: RunConfig) -> None:
    """Write ``config.toml`` without ``out``, so that a run repeated from it gets a new folder."""
    write_whole(path / "config.toml", config.model_copy(update={"out": "", "resume": False}).to_toml())


def settings_of(path: Path) -> RunConfig:
    """Read the settings of a run to be resumed; raise a UserError if the folder holds none."""
    if not (path / "config.toml").is_file():
        raise UserError(f"{path}: no run there; expected a run folder, which has a config.toml")
    config = read_config(path / "config.toml")
    return config.model_copy(update={"out": str(path.absolute()), "resume": True})


def check_folder(path: Path, *, force: bool) -> None:
    """Check that a new run may be written to ``path``, with ``force`` in place of another run.

    Raises:
        UserError: something else is there, or a run without ``force``.
    """
    if not path.exists() or (path.is_dir() and is_empty(path)):
        return
    if not (path / "config.toml").is_file():
        raise UserError(f"{path} exists and is not a run folder; choose another --out")
    if not force:
        ways = "choose another --out, go on with it by --resume, or give --force to replace it"
        raise UserError(f"run folder {path} already exists; {ways}")


def clear_folder(path: Path) -> None:
    """Remove a run; called late, so that a run that cannot start replaces nothing."""
    if path.exists():
        shutil.rmtree(path)


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``; a score without images is null."""
    text = json.dumps(plain(summary), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path / "summary.json", text + "\n")


def read_summary(path: Path) -> dict[str, Any]:
    """Read a run folder's ``summary.json``."""
    return json.loads((path / "summary.json").read_text("utf-8"))
