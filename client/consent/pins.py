"""A run's settings and classes in its first messages, which later ones may not change.

A site agrees to a run by its settings. A coordinator that changed them under way, or the list of
classes, could isolate a class or an image in the difference of two answers.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedtransfer.common.config.settings.option import Value
from fedtransfer.common.errors import SiteError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.wire.protocol import Request, classes_digest, settings_digest

RUNS = 1000  # whose pins a site stores; the oldest go first


@dataclass(frozen=True)
class Pins:
    """The pins of all runs, a file each in ``folder``; they survive a restart of the worker."""

    folder: Path

    def hold(self, run: int, settings: Mapping[str, Value], request: object) -> None:
        """Pin a run's settings, and its classes once a request names them; later compare.

        Raises:
            SiteError: they are not what they were in the run's earlier messages.
        """
        pins = {"settings": settings_digest(settings)}
        if isinstance(request, Request):
            pins["classes"] = classes_digest(request.classes)
        path = self.folder / f"{run}.json"
        pinned = json.loads(path.read_text()) if path.exists() else {}
        for subject, digest in pins.items():
            if pinned.get(subject, digest) != digest:
                raise SiteError(
                    "run-changed",
                    f"the run's {subject} are not those of its earlier messages to this site; "
                    "start a new run to change them",
                )
        if pins.keys() - pinned.keys():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, json.dumps(pinned | pins), mode=0o600)
            self._forget()

    def _forget(self) -> None:
        names = os.listdir(self.folder)
        if len(names) > RUNS:
            paths = [self.folder / name for name in names]
            for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)[:-RUNS]:
                path.unlink(missing_ok=True)
