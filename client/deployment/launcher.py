"""What Flower's SuperExec finds as ``flwr-clientapp``: hands the message's token to the site's warm worker, and waits.

Runs as a script, without any package: ``python -I -S launcher.py SOCKET --runtime-api-address … --token …``. It takes
some 20 ms; Flower's own would import Flower and unpack the bundle. SuperExec is given a PATH that holds this and
nothing else, so that no other kind of task, and no code of a bundle, can be started at a site.
"""

import itertools
import json
import socket
import sys
import time

WAIT_SECONDS = 60.0  # for a worker that is just being started


def ask(path: str, request: dict[str, str], seconds: float | None) -> str:
    """Send one request to the worker's socket; return its answer, "" where there is none within so many seconds."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            return connection.makefile("r", encoding="utf-8").readline()
    except OSError:
        return ""


def main(path: str, arguments: list[str]) -> int:
    """Have a message done; return the exit status: 0, or 1 where it could not be."""
    named = dict(itertools.pairwise(arguments))
    request = {"ask": "task", "address": named["--runtime-api-address"], "token": named["--token"]}
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
