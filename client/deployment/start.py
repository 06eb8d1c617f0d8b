"""``fedtransfer client start``: check the site and run it, here or in the background."""

import subprocess
import sys

from fedtransfer.client.deployment.preflight import NOT_CONNECTED
from fedtransfer.client.deployment.running import run_site
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.status import condition_of, describe, status_lines
from fedtransfer.common.errors import UserError
from fedtransfer.common.support import processes
from fedtransfer.common.support.terminal import print_with_time

_PROGRAM = (sys.executable, "-P", "-m", "fedtransfer", "client")


def check_and_run(site: SiteFolder) -> None:
    """Check the site, then take part in federations until this process is ended.

    A coordinator that does not answer, or does not know the site yet, is no reason not to start.

    Raises:
        UserError: the check finds an error of the site, it runs already, or the worker does not
            come up.
    """
    # In a process of its own: loading the backbone takes 0.7 GB, which are not needed here later.
    check = subprocess.run([*_PROGRAM, "check", "--quick", "--dir", str(site.folder)])
    if check.returncode not in (0, NOT_CONNECTED):
        raise UserError("not started: resolve the errors of the check, then start again")
    run_site(site, print_with_time)


def start_in_background(site: SiteFolder) -> None:
    """Start the site in the background; return once it has tried to connect, and print how it is.

    Raises:
        UserError: it ended, or has not tried in time; the text has the end of its log.
    """
    command, log = [*_PROGRAM, "start", "--dir", str(site.folder)], site.state / "site.log"
    name = f"site {site.settings.name}"
    processes.start_in_background(name, command, log, lambda: _has_tried(site), print_with_time)
    print(*status_lines(describe(site))[:2], f"Its log: {log}", sep="\n")


def _has_tried(site: SiteFolder) -> bool:
    condition = condition_of(site)
    return condition is not None and (condition.up or bool(condition.why))
