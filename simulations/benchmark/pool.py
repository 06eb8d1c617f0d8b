"""Processes that make runs, as many at a time as cores and memory allow."""

import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.benchmark.plans import Cell

Say = Callable[[str], None]
SPARE = 1.25  # memory for a run, as a multiple of what the first took


class Workers(Executor):
    """A pool that starts a process, up to a number, whenever there is work and no idle one.

    If the system kills one, for example because memory is short, the work of all fails with
    ``BrokenProcessPool``; the next work gets new processes.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool = self._started()

    def _started(self) -> ProcessPoolExecutor:
        spawn = get_context("spawn")  # TensorFlow does not survive a fork
        return ProcessPoolExecutor(self._processes, mp_context=spawn, initializer=_begin)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a process call a function."""
        with _interrupts_held():
            try:
                future = self._pool.submit(function, *args, **kwargs)
            except BrokenProcessPool:
                self._pool = self._started()
                future = self._pool.submit(function, *args, **kwargs)
            # Python 3.11 wakes the thread that watches processes before a new one is there. Without
            # a second call, its death is noticed only when another process has a result.
            if watcher := getattr(self._pool, "_executor_manager_thread_wakeup", None):
                watcher.wakeup()
            return future

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the processes; if this one is stopped, unfinished work is left for the next start."""
        if kind:
            for process in active_children():
                process.terminate()
        self._pool.shutdown(cancel_futures=True)


def results(
    pool: Executor, at_a_time: int, cells: Sequence[Cell], work: Callable[[Cell], tuple[Any, ...]], say: Say,
    failures: dict[str, str],
) -> Iterator[tuple[Cell, Any]]:  # fmt: skip
    """Yield each successful cell with its result, as they come; note the errors of the others.

    Each error of a setting is printed once. The pool does not say which cell a killed process
    worked on, so all that ran then are tried again, one at a time, with all the memory. A cell
    whose process is killed again has failed.

    Args:
        pool: ``Workers``.
        at_a_time: number of cells at once, and so of processes.
        cells: the work, in this order.
        work: cell → function and its arguments, as a process gets them.
        say: prints a line about a failure.
        failures: gets cell → error.
    """
    waiting, running, alone = list(reversed(cells)), dict[Future[Any], Cell](), set[str]()
    said = set[tuple[str, str]]()

    def room() -> int:
        return 1 if alone & set(map(str, (waiting[-1], *running.values()))) else at_a_time

    while waiting or running:
        while waiting and len(running) < room():
            cell = waiting.pop()
            running[pool.submit(*work(cell))] = cell
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            cell = running.pop(future)
            if isinstance(error := future.exception(), BrokenProcessPool) and str(cell) not in alone:
                alone.add(str(cell))
                waiting.append(cell)
                say(f"{cell}: its process, or a parallel one, was killed; trying again by itself")
            elif error:
                why = failures[str(cell)] = reason(error)
                if (cell.setting, why) not in said:
                    said.add((cell.setting, why))
                    say(f"{cell}: failed: {why}")
            else:
                yield cell, future.result()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay SIGINT and SIGTERM to the end of the block.

    Processes started in it ignore Ctrl-C, which a terminal sends to all of its processes: this
    process ends the others.
    """
    signals = list[int]()
    handlers = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if signals:
            signal.raise_signal(signals[0])


def _begin() -> None:
    """Prepare a process: its log is silent, and it ends with its parent, however that ends.

    Warnings of runs are left to their summary.json: nobody could tell here which run they are of.
    """
    logging.getLogger().setLevel(logging.ERROR)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def reason(error: BaseException) -> str:
    """Say what went wrong; for users, options are keys of a plan unless the command has them."""
    if not isinstance(error, UserError):
        return f"{type(error).__name__}: {error}"
    keys = RunConfig().to_flat().keys() - {"data", "store", "out"}
    text, named = re.subn(rf"--({'|'.join(keys)})(?![a-z-])", r"\1", str(error))
    return f"{text} (in the plan)" if named else text


def forget_peak() -> None:
    """Measure this process' peak from now on; where the system cannot, since its start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak of the resident set
    except OSError:
        return


def peak_mb() -> float:
    """Return the most resident memory of this process since ``forget_peak``, in MB of 10⁶ bytes."""
    try:
        return _megabytes("/proc/self/status", "VmHWM")
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def available_mb() -> float:
    """Return the memory, MB, that new processes can have without swapping; infinite if unknown."""
    try:
        return _megabytes("/proc/meminfo", "MemAvailable")
    except (OSError, ValueError):
        return float("inf")


def _megabytes(file: str, name: str) -> float:
    for line in Path(file).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(name)


def processes_that_fit(cores: int, available: float, need: float) -> int:
    """Return how many runs are made at a time, if one needs so much of the available memory, in MB.

    It is one a core at most, and one at least.
    """
    return int(max(1, min(cores, available // (SPARE * need) if need else cores)))
