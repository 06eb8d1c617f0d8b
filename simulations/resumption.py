"""The settings of a run that goes on: those it began with, except for a few that may change.

Free to change is how, how long or where a run computes; not free is what it computes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.errors import UserError
from fedtransfer.server.run_folder.checkpoint import FREE
from fedtransfer.server.run_folder.folder import settings_of

_NOT_AN_OPTION = {"out", "resume", "prepared"}  # free, but set by the program


def resumed_config(run: Path, settings: Mapping[str, Any]) -> RunConfig:
    """Return the settings of the run in a folder, updated with ``settings``.

    Raises:
        UserError: there is no run; or one of ``settings`` cannot change.
    """
    if fixed := sorted(set(settings) - FREE | set(settings) & {"out"}):
        free = ", ".join(sorted(FREE - _NOT_AN_OPTION))
        raise UserError(f"--resume: {', '.join(fixed)} cannot change in mid-run; these may: {free}")
    return make_config({**settings_of(run).to_flat(), **settings}, "options")
