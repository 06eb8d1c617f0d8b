"""The heads that federations ended with, kept at the site: ``results/TIME-RUN/`` with heads and settings."""

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

PERSONAL = "personal-"


@dataclass(frozen=True)
class Kept:
    """A result at the site.

    Attributes:
        folder: where it is.
        config: the run's settings as they were here.
        prefix: of its files: "" for the global head, ``personal-`` for the one that the site made of it for itself.
    """

    folder: Path
    config: RunConfig
    prefix: str = ""

    def path(self, name: str) -> Path:
        """Return the place of one of its files."""
        return self.folder / f"{self.prefix}{name}"

    def model(self) -> Path:
        """Return its ``model.keras``, made when it is first wanted.

        Raises:
            UserError: the backbone is no longer the one that the head was trained on.
        """
        return model_of_head(self.path("head.npz"), self.config)


def keep_result(results: Path, task: Task, config: RunConfig, fingerprint: str, run: int) -> None:
    """Write the head and the settings of a run; a run that is delivered again replaces its own."""
    _keep("", results, task, config, fingerprint, run)


def keep_personal_head(results: Path, task: Task, config: RunConfig, fingerprint: str, run: int) -> None:
    """Write the head in ``task`` beside the result of a run, as ``personal-head.npz``."""
    _keep(PERSONAL, results, task, config, fingerprint, run)


def _keep(prefix: str, results: Path, task: Task, config: RunConfig, fingerprint: str, run: int) -> None:
    folder = next(results.glob(f"*-{run}"), results / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{run}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.toml", config.to_toml())
    kept = Kept(folder, config, prefix)
    save_head(kept.path("head.npz"), task.head, task.classes, fingerprint, task.extra.get(MOMENTS), task.trainable)
    kept.path("model.keras").unlink(missing_ok=True)  # of the head that was here before


def newest_result(results: Path, *, personal: bool = False) -> Kept:
    """Return the newest result, or the personal head that was made of it.

    Raises:
        UserError: there is none yet.
    """
    folders = sorted(path.parent for path in results.glob("*/head.npz"))
    if not folders:
        raise UserError(f"{results}: no result yet; a site gets one at the end of each run that it took part in")
    kept = Kept(folders[-1], read_config(folders[-1] / "config.toml"), PERSONAL if personal else "")
    if not kept.path("head.npz").exists():
        raise UserError(
            f"{folders[-1]}: the newest result has no personal head; runs make one with --personal-epochs, and with "
            "--strategy reptile or perfedavg"
        )
    return kept
