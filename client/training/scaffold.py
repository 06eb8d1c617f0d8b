"""SCAFFOLD at a site: its control variate, and the correction of its steps.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (arXiv
1910.06378), Algorithm 1, option II: each of K local steps is y ← y - η (g(y) - c_k + c); then the
site's variate becomes c_k⁺ = c_k - c + (x - y) / (K η). It stays at the site, which sends the
change c_k⁺ - c_k, unweighted.

A variate is stored on the site's disk by run and round. A round starts from the state of the last
round that counted at the server, so a repeated round, after a failure or a resumption, starts from
the same state.
"""

import logging
import math
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
from fedtransfer.common.support.files import read_round, round_files, write_round

log = logging.getLogger(__name__)

KEEP_ROUNDS, KEEP_RUNS = 3, 8
_RUN = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class SiteState:
    """A site's state of one run, in a folder of the states of all runs.

    Raises:
        SiteError: ``run``, which comes from the server and names a folder, is not 8 to 64
            hexadecimal digits.
    """

    folder: Path
    run: str

    def __post_init__(self) -> None:
        if not _RUN.fullmatch(self.run):
            raise SiteError(
                "run-name",
                f"a run's name must be 8 to 64 hexadecimal digits in small letters, got {len(self.run)} "
                "characters; install the same fedtransfer on both sides",
            )

    def after(self, round: int) -> Arrays | None:
        """Return the state after ``round``; None if the site has lost it, or it is damaged."""
        for path in (path for number, path in round_files(self._folder) if number == round):
            if (arrays := read_round(path)) is not None:
                os.utime(self._folder)
                return tuple(arrays[str(i)] for i in range(len(arrays)))
            log.warning("state %s is damaged, so it is set aside", path)
            path.rename(path.with_suffix(".damaged"))
        return None

    def keep(self, round: int, arrays: Sequence[NDArray[np.float32]], since: int | None = None) -> None:
        """Store the arrays as the state after ``round``, which began from that of round ``since``.

        States of later rounds than ``since`` (default: the round before) are removed: their updates
        did not count. So are all but the newest 3 rounds, and all but the 8 runs used last.

        Raises:
            UserError: the state cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for number, old in round_files(self._folder):
                if number > (round - 1 if since is None else since):
                    old.unlink()
            write_round(self._folder, round, {str(i): array for i, array in enumerate(arrays)})
        except OSError as error:
            problem = f"state {self._folder / f'round-{round:06}'}: cannot be written: {error.strerror}"
            raise UserError(f"{problem}; make room, or give access") from None
        for _, old in round_files(self._folder)[:-KEEP_ROUNDS]:
            old.unlink()
        runs = [path for path in self.folder.iterdir() if _RUN.fullmatch(path.name) and path.is_dir()]
        for run in sorted(runs, key=lambda run: run.stat().st_mtime_ns)[:-KEEP_RUNS]:
            shutil.rmtree(run, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self.folder / self.run


def local_steps(images: int, batch_size: int, epochs: int) -> int:
    """Return K, the number of steps of plain training."""
    return math.ceil(images / batch_size) * epochs


def correction(control: Arrays, local: Arrays) -> Arrays:
    """Return c - c_k, which is added to the gradient of each step."""
    return tuple(c - k for c, k in zip(control, local, strict=True))


def next_control(
    before: Arrays, after: Arrays, control: Arrays, local: Arrays, steps: int, rate: float
) -> tuple[Arrays, Arrays]:
    """Return the site's next variate c_k⁺, and its change: float32, computed in float64.

    x and y are the head ``before`` and ``after`` training, K the number of ``steps``, and η the
    learning ``rate`` of the round; ``control`` and ``local`` are c and c_k.
    """
    following = tuple(
        (k - c.astype(np.float64) + (x.astype(np.float64) - y) / (steps * rate)).astype(np.float32)
        for x, y, c, k in zip(before, after, control, local, strict=True)
    )
    return following, tuple(new - old for new, old in zip(following, local, strict=True))
