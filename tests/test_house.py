"""The rules of the house: which folder may know which, and what must not be loaded early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "common": {"server", "client", "simulations"},
    "client": {"server", "simulations"},
    "server": {"client", "simulations"},
}


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows_run_downwards_only(folder: str) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(file)} & FORBIDDEN[folder], file


def test_tensorflow_is_imported_in_one_place() -> None:
    users = [file for folder in ("common", "client", "server", "simulations") for file in (ROOT / folder).rglob("*.py")
             if {"tensorflow", "keras"} & imports(file)]  # fmt: skip
    assert users == [ROOT / "common" / "compute.py"]


def ended_and_loaded(arguments: list[str]) -> tuple[int, set[str]]:
    """Run the command line in a process of its own; return its exit status and the modules that it loaded."""
    code = (
        f"import sys; sys.argv[1:] = {arguments!r}\nimport fedtransfer\nstatus = 0\n"
        "try: fedtransfer.main()\nexcept SystemExit as e: status = e.code or 0\n"
        "print('\\n', status, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    status, *modules = done.stdout.splitlines()[-1].split()
    return int(status), set(modules)


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["simulate", "--help"],
        ["predict", "--help"],
        ["evaluate", "-h"],
        ["features", "--help"],
        ["methods"],
        ["benchmark", "--help"],
        ["benchmark", "plan", "--help"],
        ["report", "--help"],
        ["privacy", "--dp", "image", "--epsilon", "2", "--strategy", "fed3r"],
        ["audit", "--help"],
        ["server", "--help"],
        ["server", "run", "--help"],
        ["client", "check", "--help"],
        ["--version"],
    ],
)
def test_help_is_quick_because_it_loads_no_tensorflow(arguments: list[str]) -> None:
    status, loaded = ended_and_loaded(arguments)
    assert status == 0
    assert not {"tensorflow", "keras", "flwr", "ray", "sklearn", "matplotlib", "jinja2"} & loaded


@pytest.mark.process
def test_asking_for_the_status_loads_no_tensorflow(tmp_path: Path) -> None:
    coordinator, site, images = (str(tmp_path / name) for name in ("coordinator", "site", "images"))
    Path(images).mkdir()
    for words in (
        ["server", "init", coordinator, "--host", "localhost"],
        ["client", "init", site, "--name", "north", "--coordinator", "localhost:1", "--data", images,
         "--ca", f"{coordinator}/certificates/ca.crt"],
        ["server", "enroll", f"{site}/site.pub", "--dir", coordinator],
        ["server", "status", "--dir", coordinator],
        ["client", "status", "--dir", site],
        ["client", "log", "--dir", site],
    ):  # fmt: skip
        status, loaded = ended_and_loaded(words)
        assert status == ("status" in words), "what is asked for its status does not run"
        assert not {"tensorflow", "keras", "sklearn", "matplotlib"} & loaded, words


@pytest.mark.process
def test_another_package_named_common_is_noticed(tmp_path: Path) -> None:
    """The short names of the house could be hidden by others on sys.path."""
    (tmp_path / "common").mkdir()
    for name in ("__init__", "errors", "config", "options", "features", "housekeeping", "words"):
        (tmp_path / "common" / f"{name}.py").write_bytes((ROOT / "common" / f"{name}.py").read_bytes())
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = ['--version']\nimport fedtransfer\nfedtransfer.main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2
    assert "another package named 'common'" in result.stderr
    assert str(tmp_path) in result.stderr


def test_no_module_has_grown_past_one_idea() -> None:
    long = {
        str(file.relative_to(ROOT)): n
        for folder in FORBIDDEN
        for file in (ROOT / folder).rglob("*.py")
        if (n := len(file.read_text("utf-8").splitlines())) > 300
    }
    assert not long
