"""Stands in for Python or a command next to it: has a template fork the real one (``forked.py``).

Runs without any package: ``python -I -S forked_stand_in.py FOLDER NAME ARGUMENTS``. It passes
signals on; when it is killed, the template kills the child. Small scripts that need no package are
run at once.
"""

import json
import os
import signal
import socket
import sys


def main(folder: str, name: str, arguments: list[str]) -> int:
    """Have the work done; return its exit status."""
    if name == "python" and "-S" in arguments[:3]:  # the launcher: faster without a template
        os.execv(sys.executable, [sys.executable, *arguments])
    words = (
        arguments if name == "python" else [os.path.join(os.path.dirname(sys.executable), name), *arguments]
    )
    numbers = sorted(int(number) for number in os.listdir("/proc/self/fd"))
    numbers = [number for number in numbers if _is_open(number)]
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(os.path.join(folder, "socket"))
    request = {
        "words": words, "cwd": os.getcwd(), "env": dict(os.environ), "new_session": False, "nested": True,
        "numbers": numbers,
    }  # fmt: skip
    socket.send_fds(connection, [json.dumps(request).encode()], numbers)
    for number in numbers:
        if number > 2:
            os.close(number)
    child = int(connection.recv(64))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    status = int(connection.recv(64) or 1)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    return status


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:  # the listing's own
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
