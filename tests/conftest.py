"""What all tests share: a cache of their own, small real images, a guard against processes."""

import gc
import sys
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from example_counts import examples
from hypothesis import settings
from pictures import COLOURS, picture
from waiting import patient

settings.register_profile("tier", examples(40, 100))  # without a deadline: a busy machine is no failure
settings.load_profile("tier")

PACS = Path(__file__).resolve().parents[2] / "shared" / "data" / "pacs"
MAY_START_PROCESSES = ("process", "run", "deployment")
_test: pytest.Item | None = None  # the one that runs now


def pytest_configure(config: pytest.Config) -> None:
    """Scale the limit of a test."""
    config._env_timeout = patient(float(config.getini("timeout")))  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Load all modules without looking for garbage: it took a third of the time, found none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # nor do tests look through what was loaded
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what is in tests/deployment: before `-m` selects."""
    if item.path.parent.name == "deployment" and item.path.parent.parent.name == "tests":
        item.add_marker("deployment")


@pytest.hookimpl(trylast=True)  # after the order was shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that take long first, those that wait between those that compute."""
    files: dict[Path, int] = {}  # file → 0: waits for processes, 1: makes runs, 2: neither
    for item in items:
        kind = 0 if item.get_closest_marker("deployment") else 1 if item.get_closest_marker("run") else 2
        files[item.path] = min(kind, files.get(item.path, kind))
    waiting, running, others = (
        [file for file, kind in files.items() if kind == wanted] for wanted in range(3)
    )
    pairs = [file for pair in zip_longest(waiting, running) for file in pair if file]
    place = {file: i for i, file in enumerate([*pairs, *others])}
    items.sort(key=lambda item: place[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember which test runs."""
    global _test
    _test = item
    try:
        return (yield)
    finally:
        _test = None


def _refuse_processes(event: str, _: tuple[Any, ...]) -> None:
    """A process takes seconds; a test of `make test-fast` may take a tenth of one."""
    if event not in ("subprocess.Popen", "os.fork", "os.posix_spawn") or _test is None:
        return
    if not any(_test.get_closest_marker(name) for name in MAY_START_PROCESSES):
        raise RuntimeError(f"{_test.nodeid} starts a process; mark it with pytest.mark.process")


sys.addaudithook(_refuse_processes)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep the feature store and the data sets of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a failed round again at once; do not load the module for this, which takes seconds."""
    if "fedtransfer.server.sites.messenger" in sys.modules:
        monkeypatch.setattr("fedtransfer.server.sites.messenger.PAUSE_SECONDS", 0.0)


@pytest.fixture(scope="session")
def pacs() -> Path:
    if not PACS.is_dir():
        pytest.skip(f"the PACS images are not at {PACS}")
    return PACS


@pytest.fixture
def folder_of_classes(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of class folders with ``n`` pictures each, different for each ``seed``."""

    def make(n: int = 12, name: str = "images", seed: int = 0) -> Path:
        for c, (label, colour) in enumerate(COLOURS.items()):
            folder = tmp_path / name / label
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                picture(colour, 10_000 * seed + 100 * c + i).save(folder / f"{i}.png")
        return tmp_path / name

    return make
