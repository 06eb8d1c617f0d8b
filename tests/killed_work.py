"""What processes of a benchmark's pool do in a test: import nothing, and die on purpose."""

import os
import signal
import time
from pathlib import Path

from waiting import wait_until


def killed_or_not(name: str, folder: Path) -> None:
    """End ``killed``'s process as if memory ran out; the first time while ``one`` is at work."""
    if name == "killed":
        wait_until((folder / "one").exists, "another process is at work")
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "one" and not (folder / "one").exists():
        (folder / "one").touch()
        time.sleep(0.2)  # the pool ends this process, too, once it sees that the other has died
