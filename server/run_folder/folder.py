"""The run folder: what a run leaves behind, enough to read it, to use it, to repeat it and to resume it.

config.toml    the resolved config            history.csv  a row a round or attempt
summary.json   the scores at the end          sites.csv    a row a site of it
model.keras    image in, probabilities out    head.npz     the head's arrays
last-model.keras, last-head.npz               the same after the last round
curves.png     accuracy and loss by round     tensorboard/ the same as events
interpolation.csv, interpolation.png          heads between two, with --interpolate or --ema
checkpoints/   the newest two                 sites/NAME/  what each simulated site holds
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.reading import read_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.text import plain


def open_folder(path: Path, config: RunConfig) -> FileLock:
    """Make a run folder, or with ``config.resume`` take one up; return the lock that keeps other processes out.

    Raises:
        UserError: it holds a run and this is no resumption, or one that is finished, or it is in use.
    """
    begun, finished = (path / "history.csv").exists(), (path / "summary.json").exists()
    if begun and not config.resume:
        raise UserError(
            f"run folder {path} already holds a run; resume it, choose another --out, or give --force to replace it"
        )
    if finished and config.closed_form:
        raise UserError(f"{path}: this run is finished; a one-shot head has no further rounds")
    if finished and config.rounds <= read_summary(path).get("rounds_planned", 0):
        raise UserError(f"{path}: this run is finished; to go on with it, give more --rounds than {config.rounds}")
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / "checkpoints" / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{path}: another process is working on this run; wait for it, or stop it") from None
    except OSError as error:
        raise UserError(f"run folder {path}: cannot be made: {error.strerror}; choose another --out") from None
    write_settings(path, config)
    return lock


def write_settings(path: Path, config: RunConfig) -> None:
    """Write ``config.toml``, without the run's own place, so that a run repeated from it gets a new folder."""
    write_whole(path / "config.toml", config.model_copy(update={"out": "", "resume": False}).to_toml())


def settings_of(path: Path) -> RunConfig:
    """Read the settings of a run that is to be resumed.

    Raises:
        UserError: there is no run.
    """
    if not (path / "config.toml").is_file():
        raise UserError(f"{path}: no run there; expected a run folder, which has a config.toml")
    config = read_config(path / "config.toml")
    return config.model_copy(update={"out": str(path.absolute()), "resume": True})


def check_folder(path: Path, *, force: bool) -> None:
    """Check that ``path`` can take a new run, or holds one that ``force`` lets ``clear_folder`` remove.

    Raises:
        UserError: something is there already, and it is not a run or ``force`` is not set.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / "config.toml").is_file():
        raise UserError(f"{path} exists and is not a run folder; choose another --out")
    if not force:
        raise UserError(
            f"run folder {path} already exists; choose another --out, go on with it by --resume, or give --force to replace it"
        )


def clear_folder(path: Path) -> None:
    """Remove the run that ``check_folder`` found; called late, so that a run that cannot start replaces nothing."""
    if path.exists():
        shutil.rmtree(path)


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``; a score that does not exist (no such images) is null."""
    write_whole(path / "summary.json", json.dumps(plain(summary), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_summary(path: Path) -> dict[str, Any]:
    """Read a run folder's ``summary.json``."""
    return json.loads((path / "summary.json").read_text("utf-8"))
