"""What long work says where nothing can move on the screen."""

import io

from rich.console import Console

from fedtransfer.common.support.terminal import progress_bar


def lines(seconds_a_step: float) -> list[str]:
    now, out = [0.0], io.StringIO()
    console = Console(file=out, width=100, get_time=lambda: now[0])
    with progress_bar(console, "Features", "images") as update:
        for done in range(101):
            update(done, 100)
            now[0] += seconds_a_step
    return out.getvalue().splitlines()


def test_slow_work_says_at_each_tenth_how_long_it_will_take() -> None:
    told = lines(2.0)
    assert len(told) == 10
    assert told[0] == "Features: 10 of 100 images, 180 s left"
    assert told[-1] == "Features: 100 of 100 images"


def test_quick_work_says_one_line() -> None:
    assert lines(0.001) == ["Features: 100 of 100 images"]
