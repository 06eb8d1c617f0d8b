"""Flower's SuperExec, which gives a task's token to its process in a file, not on the command line.

Every user of a machine may read every command line. The token of a task allows to read its messages
and to answer in its place. The file has no name, so only the process that inherits it can read it;
on Linux it is in memory, so a full disk stops no task.

Flower's SuperExec ends at the first HTTP 500 or TLS error, and without it no run starts any more.
Here it goes on trying.

    python -m fedtransfer.common.support.superexec ARGUMENTS OF flower-superexec
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

import httpx
from flwr.supercore.cli import flower_superexec
from flwr.supercore.retry import RetryInvoker, make_simple_http_retry_invoker
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor import subprocess_executor


class Quiet:
    """Replaces the module ``subprocess`` in Flower's executor, which uses these two names of it."""

    DEVNULL = subprocess.DEVNULL

    @staticmethod
    def Popen(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a task's process; replace ``--token TOKEN`` by ``--token-file FILE``."""
        at = list(command).index("--token")
        in_memory = hasattr(os, "memfd_create")
        with open(os.memfd_create("token"), "wb") if in_memory else tempfile.TemporaryFile() as file:
            file.write(command[at + 1].encode())
            file.flush()
            words = [*command[:at], "--token-file", f"/dev/fd/{file.fileno()}", *command[at + 2 :]]
            return subprocess.Popen(words, pass_fds=[file.fileno()], **options)


def persistent_invoker() -> RetryInvoker:
    """Return Flower's retries, which here give up only if the secret is refused."""
    invoker = make_simple_http_retry_invoker()
    invoker.recoverable_exceptions = (httpx.HTTPError, ValueError)
    invoker.should_giveup = is_refused
    return invoker


def is_refused(error: Exception) -> bool:
    """Whether a request failed because of its secret."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.UNAUTHORIZED


if __name__ == "__main__":
    vars(run_superexec)["make_simple_http_retry_invoker"] = persistent_invoker
    vars(subprocess_executor)["subprocess"] = Quiet
    flower_superexec()
