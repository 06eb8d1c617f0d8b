"""Results of federations, kept at the site: ``results/TIME-RUN/`` with heads and settings."""

import time
from dataclasses import dataclass
from pathlib import Path

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.reading import read_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import save_head
from fedtransfer.common.head.model import model_of_head
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.wire.protocol import MOMENTS, Task


@dataclass(frozen=True)
class Result:
    """A result at the site.

    Attributes:
        folder: its folder.
        config: the run's settings, as they were at this site.
        personal: it is the personal head that the site made from the run's head.
    """

    folder: Path
    config: RunConfig
    personal: bool = False

    def path(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.folder / f"{'personal-' if self.personal else ''}{name}"

    def model(self) -> Path:
        """Return its ``model.keras``, which is made on first use.

        Raises:
            UserError: the backbone has changed since the head was trained.
        """
        return model_of_head(self.path("head.npz"), self.config)


def keep_result(
    results: Path, task: Task, config: RunConfig, fingerprint: str, run: int, *, personal: bool = False
) -> None:
    """Write the head in ``task`` and the settings of a run; a second delivery replaces the first."""
    folder = next(results.glob(f"*-{run}"), results / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{run}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.toml", config.to_toml())
    result = Result(folder, config, personal)
    save_head(result.path("head.npz"), task.head, task.classes, fingerprint, task.extra.get(MOMENTS), task.trainable)
    result.path("model.keras").unlink(missing_ok=True)  # of an earlier head


def newest_result(results: Path, *, personal: bool = False) -> Result:
    """Return the newest result, or the personal head made from it.

    Raises:
        UserError: there is none yet.
    """
    folders = sorted(path.parent for path in results.glob("*/head.npz"))
    if not folders:
        raise UserError(f"{results}: no result yet; a site gets one at the end of each run in which it took part")
    result = Result(folders[-1], read_config(folders[-1] / "config.toml"), personal)
    if not result.path("head.npz").exists():
        raise UserError(
            f"{folders[-1]}: the newest result has no personal head; runs make one with --personal-epochs, "
            "and with --strategy reptile or perfedavg"
        )
    return result
