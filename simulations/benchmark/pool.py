"""Processes that make runs, as many at a time as cores and memory allow."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from common.errors import UserError
from simulations.benchmark.plans import Cell

Say = Callable[[str], None]


@contextmanager
def workers(processes: int) -> Iterator[Executor]:
    """Open a pool that starts a process, up to so many, whenever work comes and none is idle."""
    spawn = get_context("spawn")  # TensorFlow does not survive a fork
    pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_quietly)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def results(
    pool: Executor, at_a_time: int, cells: Sequence[Cell], work: Callable[[Cell], tuple[Any, ...]], say: Say,
    failures: dict[str, str],
) -> Iterator[tuple[Cell, Any]]:  # fmt: skip
    """Yield each cell that went well with what came of it, as they come; note the others with their error.

    Args:
        pool: of ``workers``.
        at_a_time: so many cells are worked on at once, and so many processes started.
        cells: what is to be done, in this order.
        work: cell → function and its arguments, as a process gets them.
        say: tells a person what failed.
        failures: cell → error.
    """
    waiting, running = list(reversed(cells)), dict[Future[Any], Cell]()
    while waiting or running:
        while waiting and len(running) < at_a_time:
            cell = waiting.pop()
            running[pool.submit(*work(cell))] = cell
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            cell = running.pop(future)
            if error := future.exception():
                failures[str(cell)] = told(error)
                say(f"{cell}: failed")
            else:
                yield cell, future.result()


def _quietly() -> None:
    """Leave warnings of runs to their summary.json: here nobody could tell which run they are of."""
    logging.getLogger().setLevel(logging.ERROR)


def told(error: BaseException) -> str:
    """Say what went wrong: our own words as they are, others with their kind."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
