"""The units of systemd that coordinators and sites are given."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pictures import class_folders

from fedtransfer.client.deployment.founding import UNIT as SITE_UNIT
from fedtransfer.client.deployment.founding import found_site
from fedtransfer.common.support.services import service_unit
from fedtransfer.server.deployment.founding import GATEWAY_UNIT, UNIT, found_coordinator

MOST_EXPOSED = 2.0  # of 10, as systemd-analyze counts


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if not found:
        pytest.skip("there is no systemd-analyze")
    return found


@pytest.mark.process
def test_systemd_understands_the_units(tmp_path: Path, analyze: str) -> None:
    # Systemd wants no quotes nor backslashes in a program's path.
    program = tmp_path / "50% $HOME" / "fedtransfer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = []
    for role in ("server", "client"):
        for name in ("plain", "heart study", "100%d", "$HOME", "it's", 'a "b"', "a\\b"):
            units.append(tmp_path / f"fedtransfer-{len(units)}.service")
            command, folder = [program, role, "start", "--dir", tmp_path / name], tmp_path / name
            units[-1].write_text(service_unit("Something", command, folder, "daemon", ["NonBlocking=no"]))
    result = subprocess.run([analyze, "verify", *units], capture_output=True, text=True)
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if "fedtransfer" in line]
    assert (result.returncode, complaints) == (0, [])


@pytest.mark.process
def test_the_services_have_few_rights(tmp_path: Path, analyze: str) -> None:
    ports = {"port": 9443, "superlink_port": 9092, "health_port": 9093}
    found_coordinator(tmp_path / "coordinator", ["fl.example.org"], **ports, user="flower")
    found_site(tmp_path / "site", "heart", "fl.example.org:9443", None, class_folders(tmp_path / "images", 0))
    units = [tmp_path / "coordinator" / name for name in (UNIT, GATEWAY_UNIT)] + [
        tmp_path / "site" / SITE_UNIT
    ]
    for unit in units:
        words = [analyze, "security", "--offline=true", "--no-pager", str(unit)]
        report = subprocess.run(words, capture_output=True, text=True)
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", report.stdout)
        assert exposure, report.stderr
        assert float(exposure[1]) < MOST_EXPOSED, report.stdout
        assert "Unknown" not in report.stderr


def test_the_unit_starts_the_role_in_its_folder() -> None:
    folder, program = Path("/srv/100% $heart"), Path("/opt/fed transfer/bin/fedtransfer")
    command = [program, "client", "start", "--dir", folder]
    unit = service_unit("Site a of a federation", command, folder, "flower", ["Nice=5"], pause=60)
    lines = unit.splitlines()
    assert "Description=Site a of a federation (fedtransfer)" in lines
    assert 'ExecStart="/opt/fed transfer/bin/fedtransfer" client start --dir "/srv/100%% $$heart"' in lines
    assert 'ReadWritePaths="/srv/100%% $heart"' in lines
    assert {"User=flower", "RestartSec=60", "Nice=5"} <= {*lines}
