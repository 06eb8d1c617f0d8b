"""The settings of a run that goes on: its own, but for those that change how, how long or where,
not what is computed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.reading import make_config
from fedtransfer.common.errors import UserError
from fedtransfer.server.run_folder.checkpoint import FREE
from fedtransfer.server.run_folder.folder import settings_of

_NOT_AN_OPTION = {"out", "resume", "prepared"}  # free, but not for a person to give


def resumed_config(run: Path, settings: Mapping[str, Any]) -> RunConfig:
    """Return the settings of the run in a folder, with ``settings`` in place of its own.

    Raises:
        UserError: there is no run; or a setting is given that cannot change.
    """
    if fixed := sorted(set(settings) - FREE | set(settings) & {"out"}):
        raise UserError(
            f"--resume: {', '.join(fixed)} cannot change in mid-run; what may: {', '.join(sorted(FREE - _NOT_AN_OPTION))}"
        )
    return make_config({**settings_of(run).to_flat(), **settings}, "options")
