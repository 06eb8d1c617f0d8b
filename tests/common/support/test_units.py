"""The units of systemd that coordinators and sites are given."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fedtransfer.common.support.services import service_unit


@pytest.mark.process
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    # Systemd wants no quotes nor backslashes in a program's path.
    program = tmp_path / "50% $HOME" / "fedtransfer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = []
    for role in ("server", "client"):
        for name in ("plain", "heart study", "100%d", "$HOME", "it's", 'a "b"', "a\\b"):
            units.append(tmp_path / f"fedtransfer-{len(units)}.service")
            units[-1].write_text(service_unit(role, "Something", tmp_path / name, "daemon", program))
    result = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if "fedtransfer" in line]
    assert (result.returncode, complaints) == (0, [])


def test_the_unit_starts_the_role_in_its_folder() -> None:
    folder, program = Path("/srv/100% $heart"), Path("/opt/fed transfer/bin/fedtransfer")
    lines = service_unit("client", "Site a of a federation", folder, "flower", program, pause=60).splitlines()
    assert "Description=Site a of a federation (fedtransfer)" in lines
    assert 'ExecStart="/opt/fed transfer/bin/fedtransfer" client start --dir "/srv/100%% $$heart"' in lines
    assert 'ReadWritePaths="/srv/100%% $heart"' in lines
    assert "User=flower" in lines
    assert "RestartSec=60" in lines
