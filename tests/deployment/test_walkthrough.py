"""The commands of README and docs/deploy.md, as written, and their promise: the same head."""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from deployment.federation import ROOT, arrays
from pictures import COLOURS, picture
from waiting import patient

BIN = Path(sys.executable).parent
TOKEN = re.compile(r"[0-9a-f]{100,}")  # Flower's, for a task


def block(page: str, after: str) -> str:
    """Return the first indented block behind a sentence of a page."""
    lines = page[page.index(after) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("    "))
    end = next(
        (i for i, line in enumerate(lines[start:], start) if line and not line.startswith("    ")), len(lines)
    )
    return "\n".join(line[4:] for line in lines[start:end])


@pytest.fixture
def default_ports() -> Iterator[None]:
    """Have the ports of the pages, which another run of the tests on this machine may use now."""
    with open(Path(tempfile.gettempdir(), "fedtransfer-default-ports.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def bash(script: str, folder: Path) -> str:
    """Run a script as a person would after `make install`; fail at the first command that fails."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    script = script.replace("source .venv/bin/activate\n", "")
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=patient(600),
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """Collect the command lines that any user of this machine sees meanwhile."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # it has ended
                    seen.add(path.read_text("utf-8", "replace").replace("\0", " "))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.mark.full
def test_make_federation_ends_with_the_head_of_the_simulation(pacs: Path, tmp_path: Path) -> None:
    """A coordinator and the four domains of PACS, with TLS and keys, five rounds."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert (
        "fedtransfer simulate --engine deployment --rounds 5 $(if $(DATA),--data $(DATA) --partition natural"
        in makefile
    )
    what = f"fedtransfer simulate --rounds 5 --data {pacs} --partition natural"
    told = bash(f"{what} --engine deployment --out real", tmp_path)
    assert "run of 4 sites, 5 rounds" in told
    bash(f"{what} --out simulated", tmp_path)
    for head in ("head.npz", "last-head.npz"):
        for real, simulated in zip(
            arrays(tmp_path / "real" / head), arrays(tmp_path / "simulated" / head), strict=True
        ):
            np.testing.assert_allclose(real, simulated, rtol=1e-5)
    for site in ("art_painting", "cartoon", "photo", "sketch"):
        [kept] = (tmp_path / "real" / "deployment" / site / "results").glob("*/head.npz")
        np.testing.assert_array_equal(arrays(kept)[0], arrays(tmp_path / "real" / "head.npz")[0])


def test_the_walk_through_on_one_machine(default_ports: None, tmp_path: Path) -> None:
    for number, site in enumerate(("north", "south")):
        for c, (label, colour) in enumerate(COLOURS.items()):
            folder = tmp_path / "images" / site / label
            folder.mkdir(parents=True)
            for i in range(12):
                picture(colour, 1000 * number + 100 * c + i).save(folder / f"{i}.png")
    script = block((ROOT / "docs" / "deploy.md").read_text("utf-8"), "The same by hand, with two sites")
    stop = """
for name in north south; do fedtransfer client stop --dir $name; done
fedtransfer server stop --dir coordinator"""
    assert stop.strip() in script, "the script stops what it starts"
    before = os.umask(0o022)  # as on most machines
    try:
        with command_lines() as lines:
            told = bash(script, tmp_path)
    finally:
        os.umask(before)
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-c", stop], cwd=tmp_path, env=environment, capture_output=True, timeout=600)
    assert "  north: " in told
    assert "round 5: 2 of 2 sites" in told
    assert "finished: " in told
    assert "Accuracy" in told
    for app in ("flwr-serverapp", "launcher.py"):
        assert any(app in line and "--token-file" in line for line in lines), "the watch saw such a process"
    assert not [line for line in lines if TOKEN.search(line)]
    private = [tmp_path / name for name in ("coordinator", "coordinator-authority", "north", "south")]
    left = [path for folder in private for path in (folder, *folder.rglob("*"))]
    assert {path.name for path in left} > {"sent.jsonl", "results", "runs", "superlink.db", "supervisor.log"}
    assert not [path for path in left if path.lstat().st_mode & 0o077 and not path.is_symlink()]
