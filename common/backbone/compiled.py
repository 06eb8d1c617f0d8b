"""Compiled copies of frozen networks, so that TensorFlow reads a Keras file only once.

A copy is a folder below ``~/.cache/fedtransfer/networks``, made whole or not at all:

- ``network.xml`` and ``network.bin``: the network in OpenVINO's format, images (n, R, R, 3)
  float32, RGB 0 to 255 → features (n, d) float32;
- ``network.keras``, or ``network.onnx`` (and ``network.onnx.data`` if it is large): the same as
  exported models contain it;
- ``card.json``: what a run needs to know of the network without loading it, and the SHA-256 of the
  other files.

Its name ends in a digest of the files that the network was read from. The bundled network's copy
comes with the package.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import ABANDONED_SECONDS, cache_folder

log = logging.getLogger(__name__)

# Compute a batch of features, (n, R, R, 3) float32 → (n, d) float32.
Extractor = Callable[[NDArray[np.float32]], NDArray[np.float32]]

FORMAT = 1
_PREFIX = ".making-"
IR, WEIGHTS, CARD = "network.xml", "network.bin", "card.json"
KERAS, ONNX = "network.keras", "network.onnx"


@dataclass(frozen=True)
class Compiled:
    """A compiled copy."""

    folder: Path
    identity: str  # of the network; see ``Backbone.identity``
    features: int  # d
    fixed: int  # pixels a side of the only images that it takes, 0 for any
    notes: tuple[str, ...] = ()  # sentences for the user about how it was read
    refusal: str = ""  # why OpenVINO cannot compute it, "" if it can
    alone: bool = False  # whether it takes one image at a time only

    @property
    def network(self) -> Path:
        """The file that OpenVINO reads."""
        return self.folder / IR

    @property
    def keras_file(self) -> Path:
        """The file that Keras reads, if it is a Keras network."""
        return self.folder / KERAS

    @property
    def onnx_file(self) -> Path | None:
        """The network in ONNX; None for a Keras network."""
        file = self.folder / ONNX
        return file if file.is_file() else None


def bundled() -> Compiled:
    """Return the copy of the bundled network."""
    folder = Path(str(files("fedtransfer.assets") / BUNDLED))
    return _read_card(folder)


def digest(sources: Iterable[Path], *settings: object) -> str:
    """Return the SHA-256 over the content of files, and settings that decide what they mean."""
    state = hashlib.sha256(json.dumps([FORMAT, *settings]).encode())
    for path in sources:
        with path.open("rb") as file:
            state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()


def cached(name: str, key: str) -> Compiled | None:
    """Return the copy with a key, or None; a damaged one is removed."""
    folder = _folder(name, key)
    if not folder.is_dir():
        return None
    try:
        compiled = _read_card(folder)
        if damaged := [file for file, digest in _digests(folder).items() if _sha256(folder / file) != digest]:
            raise ValueError(f"{', '.join(damaged)} differ from what was written")
    except (OSError, ValueError, KeyError) as error:
        log.warning("compiled network %s is damaged (%s); it is made again", folder, error)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return compiled


def copies() -> Iterator[Compiled]:
    """Yield the bundled copy and all cached ones that have a card."""
    yield bundled()
    for folder in sorted(cache_folder("networks").glob("*-*")):
        try:
            yield _read_card(folder)
        except (OSError, ValueError, KeyError):
            continue


def cache(name: str, key: str, write: Callable[[Path], Mapping[str, Any]]) -> Compiled:
    """Make a copy: ``write`` puts its files into a folder and returns its card.

    It appears whole or not at all. If another process made it meanwhile, theirs stays.

    Raises:
        UserError: the cache cannot be written.
    """
    target = _folder(name, key)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        temporary = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=target.parent))
        write_copy(temporary, write)
        if not target.is_dir():
            os.rename(temporary, target)
    except OSError as error:
        if not target.is_dir():  # else another process was faster
            raise UserError(
                f"compiled network {target}: cannot be written: {error.strerror}; "
                "XDG_CACHE_HOME=FOLDER in the environment puts the cache elsewhere"
            ) from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    return _read_card(target)


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left behind an hour ago or more."""
    for path in folder.glob(f"{_PREFIX}*"):
        if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def write_copy(folder: Path, write: Callable[[Path], Mapping[str, Any]]) -> None:
    """Write a copy's files and its card into an empty folder, and flush them to the disk."""
    card = dict(write(folder))
    card["files"] = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _folder(name: str, key: str) -> Path:
    return cache_folder("networks") / f"{name}-{key[:32]}"


def _read_card(folder: Path) -> Compiled:
    card = json.loads((folder / CARD).read_text("utf-8"))
    return Compiled(
        folder, card["identity"], card["features"], card["fixed"], tuple(card["notes"]), card["refusal"],
        card.get("alone", False),
    )  # fmt: skip


def _digests(folder: Path) -> dict[str, str]:
    digests: dict[str, str] = json.loads((folder / CARD).read_text("utf-8"))["files"]
    return digests


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
