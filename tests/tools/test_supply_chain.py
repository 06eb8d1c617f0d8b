"""An installation: versions with hashes, an inventory, and whether flaws are known."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UVX = Path(sys.executable).parent / "uvx"


def pins(text: str) -> set[str]:
    """Return the lines of a file with versions, without hashes."""
    lines = re.sub(r" \\\n\s+--hash=\S+", "", text).splitlines()
    return {line.strip() for line in lines if line and not line.startswith("#")}


def test_every_package_has_a_version_of_the_constraints_and_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert pins(text) <= pins((ROOT / "constraints.txt").read_text("utf-8")), "run make lock"
    for entry in re.split(r"\n(?=\S)", text)[1:]:
        assert "==" in entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_the_lock_has_all_that_the_project_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    names = {re.match(r"[\w.-]+", each)[0].lower() for each in needed}  # type: ignore[index]
    locked = {line.split("==")[0] for line in pins((ROOT / "requirements.lock").read_text("utf-8"))}
    assert names <= locked


@pytest.mark.process
def test_pip_takes_the_lock_and_finds_this_environment_in_it() -> None:
    """Without a network: pip refuses a missing hash, and looks for a package of another version."""
    words = ["install", "--dry-run", "--no-index", "--no-deps", "--require-hashes", "--requirement"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, "requirements.lock"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"numpy=={version('numpy')}" in done.stdout
    assert "Would install" not in done.stdout


@pytest.mark.full
@pytest.mark.process
def test_the_inventory_is_written_without_a_network_and_nothing_passes_for_audited(tmp_path: Path) -> None:
    # The tests' cache is an empty one.
    offline = {**os.environ, "UV_CACHE_DIR": str(Path.home() / ".cache" / "uv"), "UV_OFFLINE": "1"}
    for tool in ("cyclonedx-bom==7.5.0", "pip-audit==2.10.1"):
        words = [UVX, "--from", tool, "python", "-c", ""]
        if not UVX.exists() or subprocess.run(words, capture_output=True, env=offline).returncode:
            pytest.skip(f"{tool} is not in uv's cache: make audit-dependencies brings it")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"))
    nowhere = {"PIP_AUDIT_OSV_URL": "http://127.0.0.1:9", "PIP_AUDIT_TIMEOUT": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "audit_dependencies.py"],
        cwd=tmp_path, env=offline | nowhere, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "NOT AUDITED: the database of flaws cannot be reached" in done.stdout
    inventory = json.loads((tmp_path / "build" / "sbom.cdx.json").read_text("utf-8"))
    assert inventory["bomFormat"] == "CycloneDX"
    assert inventory["metadata"]["component"]["name"] == "fedtransfer"
    components = {each["name"]: each["version"] for each in inventory["components"]}
    assert components["flwr"] == version("flwr")
    assert components["numpy"] == version("numpy")
