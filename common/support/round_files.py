"""A file for the arrays of each round; a kill at any moment leaves whole files only.

``round-000012.0123456789abcdef.npz``: the second part of the name is the start of the SHA-256 of
the file.
"""

import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.support.files import write_whole

_NAME = re.compile(r"round-(\d{6,})\.([0-9a-f]{16})\.npz")


def write_round(folder: Path, round: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays of a round by name; on return they are on disk.

    Raises:
        OSError: they cannot be written; the files of earlier rounds are as they were.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:16]
    write_whole(folder / f"round-{round:06}.{digest}.npz", buffer.getbuffer())


def round_files(folder: Path) -> list[tuple[int, Path]]:
    """List the files in a folder with their rounds, oldest first; none if the folder is missing."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted((int(match[1]), folder / name) for name in names if (match := _NAME.fullmatch(name)))


def read_round(path: Path) -> dict[str, NDArray[Any]] | None:
    """Read a file's arrays by name; None if its content does not match the hash in its name."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest()[:16] != path.name.split(".")[1]:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
