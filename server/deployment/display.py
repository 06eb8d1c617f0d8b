"""The display of a run in progress: its events, as they happen."""

import sys
import time
from pathlib import Path

from fedtransfer.common.support.processes import running_pid
from fedtransfer.common.support.terminal import print_with_time
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import read_current
from fedtransfer.server.deployment.status import event_line, events


def follow_run(coordinator: Coordinator, run: Path) -> int:
    """Print a run's events as they happen; return its exit status, 0 if it is finished."""
    printed = len(events(run))
    if not running_pid(coordinator.state):
        print_with_time(f"waiting for the coordinator: fedtransfer server start --dir {coordinator.folder}")
    try:
        while True:
            current = read_current(coordinator)
            for event in events(run)[printed:]:
                print_with_time(event_line(event))
                printed += 1
            if current is None or current.folder != run or not current.is_open:
                break
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("the run goes on; see fedtransfer server status")
        return 0
    if current and current.status == "finished":
        print(f"finished: {run}")
        return 0
    print(f"{current.status}: {current.why}" if current else "gone: ", file=sys.stderr)
    return 1
