"""``make audit-dependencies``: an inventory of the installed packages, and their known flaws.

The inventory, in CycloneDX's form, needs no network. The flaws come from the OSV database. If it
cannot be reached, nothing was audited; the exit status is 3 then, and 1 if a package has a flaw.

Both tools run outside the environment that they look at, so they add nothing to it.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

BUILD = Path("build")
INVENTORY, FLAWS = BUILD / "sbom.cdx.json", BUILD / "flaws.json"
UVX = str(Path(sys.executable).parent / "uvx")
INVENTORY_TOOL = (UVX, "--from", "cyclonedx-bom==7.5.0", "cyclonedx-py", "environment")
FLAWS_TOOL = (UVX, "--from", "pip-audit==2.10.1", "pip-audit", "--vulnerability-service", "osv")
UNREACHABLE = 3


def main() -> int:
    """Write the inventory, then the flaws; return the exit status."""
    BUILD.mkdir(exist_ok=True)
    FLAWS.unlink(missing_ok=True)
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", str(INVENTORY)]
    subprocess.run([*INVENTORY_TOOL, sys.executable, *options], check=True)
    print(f"inventory: {INVENTORY}")
    options = ["--path", sysconfig.get_path("purelib"), "--skip-editable", "--progress-spinner", "off"]
    words = [*FLAWS_TOOL, *options, "--format", "json", "--output", str(FLAWS)]
    audit = subprocess.run(words, capture_output=True, text=True)
    if not FLAWS.exists():
        lines = audit.stderr.strip().splitlines() or ["no reason given"]
        print(f"NOT AUDITED: the database of flaws cannot be reached ({lines[-1]}); try again with a network")
        return UNREACHABLE
    print(f"{audit.stderr.strip()}: {FLAWS}")
    return audit.returncode


if __name__ == "__main__":
    sys.exit(main())
