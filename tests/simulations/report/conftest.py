"""Folders and pages that many tests of the report read: each is made once, when first needed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from report_folders import audit_folder, benchmark_folder, run_folder
from report_pages import Page, without_drawings, written

Words = Callable[..., Page]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("runs") / "plain", learning_rate=2.5)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_folder(tmp_path_factory.mktemp("benchmarks") / "bench")


@pytest.fixture(scope="session")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audit_folder(tmp_path_factory.mktemp("audits") / "audit")


def _of_words(folder: Path, home: Path) -> Page:
    with without_drawings():
        return written([folder], home / "report.html")


@pytest.fixture(scope="session")
def run_page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return _of_words(run, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def bench_page(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return _of_words(bench, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of one setting with one seed."""
    return benchmark_folder(tmp_path_factory.mktemp("benchmarks") / "bench", ("iid",), 1)


@pytest.fixture(scope="session")
def one_seed_page(one_seed: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return _of_words(one_seed, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def audit_page(audit: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return _of_words(audit, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def drawn_run(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return written([run], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def words(tmp_path: Path) -> Words:
    """Write a page about folders without its drawings, and read it."""

    def page(*folders: Path) -> Page:
        with without_drawings():
            return written(folders, tmp_path / "report.html")

    return page


@pytest.fixture
def drawn(tmp_path: Path) -> Words:
    """Write a whole page about folders, and read it."""
    return lambda *folders: written(folders, tmp_path / "report.html")


@pytest.fixture
def tables(bench: Path, tmp_path: Path) -> Path:
    """A copy of the benchmark without its runs, to be altered."""
    return shutil.copytree(bench, tmp_path / "bench", ignore=shutil.ignore_patterns("runs"))


@pytest.fixture
def iid_tables(tmp_path: Path) -> Path:
    """A benchmark of one setting, without its runs, to be altered."""
    folder = benchmark_folder(tmp_path / "bench", ("iid",))
    shutil.rmtree(folder / "runs")
    return folder


@pytest.fixture
def audit_copy(audit: Path, tmp_path: Path) -> Path:
    """A copy of the audit, to be altered."""
    return shutil.copytree(audit, tmp_path / "audit")


@pytest.fixture
def audit_tables(audit_copy: Path) -> Path:
    """A copy of the audit without its curves, to be altered."""
    (audit_copy / "roc.csv").unlink()
    return audit_copy


@pytest.fixture
def no_drawings() -> Iterator[None]:
    """Leave drawings out of pages that a command writes."""
    with without_drawings():
        yield
