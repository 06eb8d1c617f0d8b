"""Processes that make runs, as many at a time as cores and memory allow."""

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.benchmark.plans import Cell

Say = Callable[[str], None]


class Workers(Executor):
    """A pool that starts a process, up to a number, whenever there is work and no idle one.

    If the system kills one, for example because memory is short, the work of all fails with ``BrokenProcessPool``; the next
    work gets new processes.
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
            # Python 3.11 wakes the thread that watches the processes before a new one is there. Without a second
            # call, its death is noticed only when another process has a result.
            if watcher := getattr(self._pool, "_executor_manager_thread_wakeup", None):
                watcher.wakeup()
            return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the processes end."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@contextmanager
def workers(processes: int) -> Iterator[Executor]:
    """Open a pool of processes; when this process is stopped, their unfinished work is left for the next start."""
    pool = Workers(processes)
    try:
        yield pool
    except BaseException:
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def results(
    pool: Executor, at_a_time: int, cells: Sequence[Cell], work: Callable[[Cell], tuple[Any, ...]], say: Say,
    failures: dict[str, str],
) -> Iterator[tuple[Cell, Any]]:  # fmt: skip
    """Yield each successful cell with its result, as they come; note the errors of the others, and print each error of a
    setting once.

    The pool does not say which cell a killed process worked on, so all that ran then are tried again, one at a time, with all
    the memory. A cell whose process is killed again has failed.

    Args:
        pool: of ``workers``.
        at_a_time: number of cells at once, and so of processes.
        cells: the work, in this order.
        work: cell → function and its arguments, as a process gets them.
        say: prints a line about a failure.
        failures: cell → error.
    """
    waiting, running, alone = list(reversed(cells)), dict[Future[Any], Cell](), set[str]()
    said = set[tuple[str, str]]()
    while waiting or running:
        while waiting and len(running) < (1 if alone & set(map(str, (waiting[-1], *running.values()))) else at_a_time):
            cell = waiting.pop()
            running[pool.submit(*work(cell))] = cell
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            cell = running.pop(future)
            if isinstance(error := future.exception(), BrokenProcessPool) and str(cell) not in alone:
                alone.add(str(cell))
                waiting.append(cell)
                say(f"{cell}: its process, or a parallel one, was killed; trying again by itself")
            elif error:
                again = (cell.setting, reason(error)) in said
                said.add((cell.setting, reason(error)))
                failures[str(cell)] = reason(error)
                if not again:
                    say(f"{cell}: failed: {reason(error)}")
            else:
                yield cell, future.result()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay SIGINT and SIGTERM to the end of the block.

    Processes started in it ignore Ctrl-C, which a terminal sends to all of its processes: this process ends the others.
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
    """Prepare a process: warnings of runs are left to their summary.json, since here nobody could tell which run they are of;
    and the process that began this one says when it ends, however that ends itself.
    """
    logging.getLogger().setLevel(logging.ERROR)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def in_terms_of_a_plan(error: str) -> str:
    """Return an error with options as keys of a plan, except those that a benchmark's command line has."""
    keys = RunConfig().to_flat().keys() - {"data", "store", "out"}
    text = re.sub(r"--([a-z][a-z-]*)", lambda option: option[1] if option[1] in keys else option[0], error)
    return text if text == error else f"{text} (in the plan)"


def reason(error: BaseException) -> str:
    """Say what went wrong: errors for users in terms of a plan, others with their type."""
    return in_terms_of_a_plan(str(error)) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
