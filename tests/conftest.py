"""What all tests share: a cache of their own, and small real images."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from pictures import COLOURS, picture

settings.register_profile("without timing", deadline=None)  # a busy machine is no failure
settings.load_profile("without timing")

PACS = Path(__file__).resolve().parents[2] / "shared" / "data" / "pacs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in tests/deployment."""
    for item in items:
        if item.path.parent.name == "deployment" and item.path.parent.parent.name == "tests":
            item.add_marker("deployment")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep the feature store and the data sets of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a failed round again at once."""
    monkeypatch.setattr("server.asking.PAUSE_SECONDS", 0.0)


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
