"""The heads that federations ended with, kept at the site: ``results/TIME-RUN/`` with head and settings."""

import time
from dataclasses import dataclass
from pathlib import Path

from common.backbone import Backbone, configured_backbone
from common.config import RunConfig
from common.config_reading import make_config, read_toml
from common.errors import UserError
from common.head import HeadSpec, load_head, save_head
from common.model import export_models
from common.protocol import Task


@dataclass(frozen=True)
class Kept:
    """A result at the site: its folder, and the run's settings as they were here."""

    folder: Path
    config: RunConfig


def keep_result(results: Path, task: Task, config: RunConfig, fingerprint: str, run: int) -> None:
    """Write the head and the settings of a run; a run that is delivered again replaces its own."""
    folder = next(results.glob(f"*-{run}"), results / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{run}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(config.to_toml(), "utf-8")
    save_head(folder / "head.npz", task.head, task.classes, fingerprint)
    (folder / "model.keras").unlink(missing_ok=True)  # of the head that was here before


def newest_result(results: Path) -> Kept:
    """Return the newest result.

    Raises:
        UserError: there is none yet.
    """
    folders = sorted(path.parent for path in results.glob("*/head.npz"))
    if not folders:
        raise UserError(f"{results}: no result yet; a site gets one at the end of each run that it took part in")
    settings = folders[-1] / "config.toml"
    return Kept(folders[-1], make_config(read_toml(settings), str(settings)))


def result_model(kept: Kept) -> Path:
    """Return the result as a ``model.keras``, made when it is first wanted.

    Raises:
        UserError: the backbone is no longer the one that the head was trained on.
    """
    path = kept.folder / "model.keras"
    if not path.exists():
        backbone: Backbone = configured_backbone(kept.config)
        head, classes, fingerprint = load_head(kept.folder / "head.npz")
        if backbone.fingerprint != fingerprint:
            raise UserError(
                f"{kept.folder}: the head was trained on backbone {fingerprint[:16]}…, but {kept.config.backbone} is now "
                f"{backbone.fingerprint[:16]}…; bring back the file that it was"
            )
        spec = HeadSpec.from_config(kept.config, backbone.features, len(classes))
        temporary = path.with_name("writing.keras")
        export_models({temporary: head}, backbone, spec, classes, normalised=kept.config.normalise)
        temporary.replace(path)
    return path
