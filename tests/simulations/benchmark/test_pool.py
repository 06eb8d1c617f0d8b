"""The pool of processes: the number at a time, failures, interrupts, and killed processes."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from waiting import patient, wait_until

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.benchmark.plans import Cell
from fedtransfer.simulations.benchmark.pool import Workers, reason, results


def test_cells_are_worked_on_so_many_at_a_time_and_failures_are_noted() -> None:
    at_once, most, failures, said = 0, 0, {}, []

    def work(number: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.01)
        at_once -= 1
        if number == 3:
            raise UserError("three is refused")
        if number == 4:
            raise ValueError("four")
        return number * number

    cells = [Cell("s", str(i), 0, RunConfig()) for i in range(6)] + [Cell("s", "3", 1, RunConfig())]
    with ThreadPoolExecutor(6) as pool:
        done = list(results(pool, 2, cells, lambda cell: (work, int(cell.method)), said.append, failures))
    assert {int(cell.method): value for cell, value in done} == {0: 0, 1: 1, 2: 4, 5: 25}
    assert most == 2
    refused = {"s, 3, seed 0": "three is refused", "s, 4, seed 0": "ValueError: four"}
    assert failures == {**refused, "s, 3, seed 1": "three is refused"}
    assert said == [f"{cell}: failed: {why}" for cell, why in refused.items()], "each once"


@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_comes_while_a_process_starts_is_heard_then(what: signal.Signals) -> None:
    before = signal.signal(what, signal.default_int_handler)
    try:
        with Workers(1) as pool:
            start, interrupted = pool._pool.submit, []

            def slowly(*arguments: object) -> object:
                os.kill(os.getpid(), what)
                future = start(*arguments)
                interrupted.append(False)
                return future

            pool._pool.submit = slowly
            try:
                pool.submit(abs, -1)
            except KeyboardInterrupt:
                interrupted.append(True)
    finally:
        signal.signal(what, before)
    assert interrupted == [False, True], "after the process has started, and not lost"


def _wait_forever(pid: Path) -> None:
    pid.write_text(str(os.getpid()))
    signal.pause()


@pytest.mark.process
def test_a_killed_process_is_noticed_at_once_whichever_was_started_last(tmp_path: Path) -> None:
    """Python 3.11 by itself notices the end of the last process only when another has a result."""
    with Workers(2) as pool:
        futures = []
        for number in range(2):
            futures.append(pool.submit(_wait_forever, tmp_path / str(number)))
            wait_until(lambda number=number: (tmp_path / str(number)).is_file(), "the process is at work")
        os.kill(int((tmp_path / "1").read_text()), signal.SIGKILL)
        error = futures[0].exception(patient(20))
    assert isinstance(error, BrokenProcessPool)


def test_a_remedy_names_keys_of_a_plan_where_the_command_has_no_such_option() -> None:
    assert reason(UserError("lower --sites or --min-images, or raise --classes-per-site")) == (
        "lower sites or min-images, or raise classes-per-site (in the plan)"
    )
    for kept in ("give its path to --data", "--store is full", "choose another --out of --help", "no option"):
        assert reason(UserError(kept)) == kept
