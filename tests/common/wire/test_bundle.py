import hashlib
import io
import shutil
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.wire import bundle
from fedtransfer.common.wire.bundle import PACKAGES, build_bundle, refuse_other_sources, sources_digest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, of which digest and bundle are taken."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(bundle, "__file__", str(tmp_path / "common" / "wire" / "bundle.py"))
    monkeypatch.setattr(bundle, "sources_digest", sources_digest.__wrapped__)  # it remembers, else
    return tmp_path


def test_equal_sources_give_equal_bytes(copied: Path) -> None:
    assert bundle.sources_digest() == sources_digest()
    (copied / "common" / "__pycache__").mkdir()
    (copied / "common" / "__pycache__" / "bundle.pyc").write_bytes(b"compiled")
    (copied / "common" / "notes.txt").write_text("no source")
    assert build_bundle() == bundle.build_bundle()
    content, digest = build_bundle()
    assert build_bundle() == (content, digest)
    assert digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("package", PACKAGES)
def test_any_change_of_the_sources_is_another_bundle(copied: Path, package: str) -> None:
    before = build_bundle()[1]
    seen = {before}
    path = copied / package / "__init__.py"
    original = path.read_bytes()
    path.write_bytes(original + b"\n")
    seen.add(build_bundle()[1])
    path.write_bytes(original)
    assert build_bundle()[1] == before
    path.rename(copied / package / "renamed.py")
    seen.add(build_bundle()[1])
    (copied / package / "renamed.py").rename(path)
    (copied / package / "deep").mkdir()
    (copied / package / "deep" / "more.py").write_bytes(b"")
    seen.add(build_bundle()[1])
    assert len(seen) == 4


def test_native_code_is_source_too(copied: Path) -> None:
    before = bundle.sources_digest()
    with (copied / "client" / "training" / "kernel.ll").open("a") as file:
        file.write("; another\n")
    assert bundle.sources_digest() != before


def test_a_file_cannot_pass_for_two(copied: Path) -> None:
    """Names and lengths belong to the digest: what moves from one file to the next shows."""
    one, two = copied / "common" / "zz1.py", copied / "common" / "zz2.py"
    seen = set()
    for first, second in (("ab", "c"), ("a", "bc"), ("abc", "")):
        one.write_text(first)
        two.write_text(second)
        seen.add(bundle.sources_digest())
    assert len(seen) == 3


def test_a_bundle_names_the_code_and_carries_none_of_it() -> None:
    content, _ = build_bundle()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    code = {name: text for name, text in files.items() if name.endswith(".py")}
    assert set(code) == {"bundle_server.py", "bundle_client.py"}
    assert all(sources_digest() in text and len(text) < 400 for text in code.values())
    app = tomllib.loads(files["pyproject.toml"])["tool"]["flwr"]["app"]
    assert app["components"] == {"serverapp": "bundle_server:app", "clientapp": "bundle_client:app"}
    assert app["config"] == RunConfig().to_flat()  # Flower overrides only keys that are there
    assert len(content) < 20_000


def test_a_bundle_made_for_other_sources_is_refused() -> None:
    refuse_other_sources(sources_digest())
    with pytest.raises(UserError) as caught:
        refuse_other_sources("0123456789abcdef" * 4)
    for fact in ("0123456789abcdef…", f"{sources_digest()[:16]}…", f"fedtransfer {version('fedtransfer')}"):
        assert fact in str(caught.value)


def test_the_code_of_a_bundle_is_what_is_installed() -> None:
    from fedtransfer.server.app import app

    names: dict[str, object] = {}
    content, _ = build_bundle()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        exec(archive.read("bundle_server.py"), names)
        assert names["app"] is app
        other = archive.read("bundle_server.py").decode().replace(sources_digest(), "0" * 64)
    with pytest.raises(UserError, match=r"made for sources 0000000000000000…"):
        exec(other, {})
