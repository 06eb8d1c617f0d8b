"""The wheel: one package that works without the project, next to folders of the same names."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.full]
ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("client", "common", "server", "simulations", "fedtransfer")
FILES = """
import fedtransfer, fedtransfer.common, fedtransfer.client, fedtransfer.server, fedtransfer.simulations
for module in (
    fedtransfer, fedtransfer.common, fedtransfer.client, fedtransfer.server, fedtransfer.simulations
):
    print(module.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, and unpack it."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed; pip install -e '.[dev]' brings it")
    sources, folder = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--quiet",
    ]
    subprocess.run([*command, "--wheel-dir", str(folder), str(sources)], check=True, capture_output=True)
    [file] = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def python(wheel: Path, folder: Path, *arguments: str) -> str:
    """Run Python on the wheel, next to packages that nobody may import; return what it prints."""
    for name in FOLDERS[:4]:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").write_text("raise ImportError('a package of the user')")
    environment = os.environ | {"PYTHONPATH": str(wheel), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_top_level_is_one_package(wheel: Path) -> None:
    names = {entry.name for entry in wheel.iterdir()}
    assert names - {name for name in names if name.endswith(".dist-info")} == {"fedtransfer"}
    assert len(names) == 2


def test_every_package_folder_is_in_it_with_all_its_files(wheel: Path) -> None:
    files = [file for name in FOLDERS for file in (ROOT / name).rglob("*") if file.is_file()]
    paths = [file.relative_to(ROOT) for file in files if "__pycache__" not in file.parts]
    homes = [path if path.parts[0] == "fedtransfer" else Path("fedtransfer", path) for path in paths]
    assert len(homes) > 200
    assert not [str(path) for path in homes if not (wheel / path).is_file()]


def test_it_is_what_python_imports_next_to_folders_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    for file in python(wheel, tmp_path, "-c", FILES).splitlines():
        assert Path(file).is_relative_to(wheel), file


def test_it_runs_a_federation(wheel: Path, tmp_path: Path) -> None:
    command = [
        "-m",
        "fedtransfer",
        "simulate",
        "--rounds",
        "2",
        "--no-baselines",
        "--no-models",
        "--out",
        "run",
    ]
    python(wheel, tmp_path, *command)
    assert (tmp_path / "run" / "head.npz").is_file()
