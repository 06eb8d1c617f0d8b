"""A site's own state of a run, on its disk: what it must remember from round to round, and never sends.

State is kept by run and round, and a round starts from the state of the last round that counted at the server. So a
round that is played again, after a failure or a resumption, starts from what it started from.
"""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.support.round_files import read_round, round_files, write_round

log = logging.getLogger(__name__)

KEEP_ROUNDS, KEEP_RUNS = 3, 8
_RUN = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class SiteState:
    """A site's state of one run.

    Attributes:
        folder: of the states of all runs.
        run: names the run, 8 to 64 hexadecimal digits.

    Raises:
        SiteError: ``run`` is no such name; it comes from the server, and becomes that of a folder.
    """

    folder: Path
    run: str

    def __post_init__(self) -> None:
        if not _RUN.fullmatch(self.run):
            raise SiteError(
                "run-name",
                f"a run's name must be 8 to 64 hexadecimal digits in small letters, got {len(self.run)} characters; "
                "install the same fedtransfer on both sides",
            )

    def before(self, round: int) -> Arrays | None:
        """Return what was kept in the newest round before ``round``; None where nothing was."""
        for _, path in reversed([(number, path) for number, path in round_files(self._own) if number < round]):
            if (arrays := read_round(path)) is not None:
                os.utime(self._own)
                return tuple(arrays[str(i)] for i in range(len(arrays)))
            log.warning("state %s is damaged; set aside, the one before it is used", path)
            path.rename(path.with_suffix(".damaged"))
        return None

    def holds(self, round: int) -> bool:
        """Whether there is a state of just this round."""
        return any(number == round for number, _ in round_files(self._own))

    def keep(self, round: int, arrays: Sequence[NDArray[np.float32]], since: int | None = None) -> None:
        """Keep the arrays as what ``round`` ended with, having started from the state of ``since`` (the round before).

        States of rounds after that are dropped: what was sent with them did not count, or is no more. So are all but
        those of the newest 3 rounds, and all but the 8 runs that were used last.

        Raises:
            UserError: they cannot be written.
        """
        try:
            self._own.mkdir(parents=True, exist_ok=True)
            for number, old in round_files(self._own):
                if number > (round - 1 if since is None else since):
                    old.unlink()
            write_round(self._own, round, {str(i): array for i, array in enumerate(arrays)})
        except OSError as error:
            raise UserError(
                f"state {self._own / f'round-{round:06}'}: cannot be written: {error.strerror}; make room, or give access"
            ) from None
        for _, old in round_files(self._own)[:-KEEP_ROUNDS]:
            old.unlink()
        for run in sorted(self._runs(), key=lambda run: run.stat().st_mtime_ns)[:-KEEP_RUNS]:
            shutil.rmtree(run, ignore_errors=True)

    @property
    def _own(self) -> Path:
        return self.folder / self.run

    def _runs(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if _RUN.fullmatch(path.name) and path.is_dir()]
