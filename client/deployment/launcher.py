"""The site's ``flwr-clientapp``: passes a message's token to the warm worker, and waits.

It runs as a script, without any package: ``python -I -S launcher.py SOCKET --runtime-api-address …
--token-file …``. It takes about 20 ms; Flower's own would import Flower and unpack the bundle.
SuperExec's PATH has this script and nothing else, so that a site starts no other kind of task, and
no code of a bundle.
"""

import itertools
import json
import socket
import sys
import time
from pathlib import Path

WAIT_SECONDS = 60.0  # for a worker that is starting


def ask(path: str, request: dict[str, str], seconds: float | None) -> str:
    """Send a request to the worker's socket; return its answer, "" if none comes in ``seconds``."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            return connection.makefile("r", encoding="utf-8").readline()
    except OSError:
        return ""


def main(path: str, arguments: list[str]) -> int:
    """Have the worker answer a message; return the exit status, 1 if it could not."""
    options = dict(itertools.pairwise(arguments))
    token = Path(options["--token-file"]).read_text("utf-8")
    request = {"ask": "task", "address": options["--runtime-api-address"], "token": token}
    deadline = time.monotonic() + WAIT_SECONDS
    while not ask(path, {"ask": "status"}, 5.0):
        if time.monotonic() > deadline:
            print("the site's worker does not answer; see worker.log", file=sys.stderr)
            return 1
        time.sleep(0.5)
    answer = ask(path, request, None)
    return int(json.loads(answer)["code"]) if answer else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
