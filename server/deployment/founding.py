"""``fedtransfer server init``: make a coordinator's folder, with files for nginx and systemd."""

import getpass
from collections.abc import Sequence
from pathlib import Path

from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.processes import tool
from fedtransfer.common.support.services import service_unit
from fedtransfer.server.deployment import certificates
from fedtransfer.server.deployment.coordinator import Coordinator, Settings
from fedtransfer.server.deployment.nginx import nginx_site

UNIT = "fedtransfer-coordinator.service"


def found_coordinator(
    folder: Path, hosts: Sequence[str], *, port: int, superlink_port: int, health_port: int, user: str
) -> Coordinator:
    """Make the folder of a coordinator.

    Args:
        folder: the folder to make.
        hosts: names and addresses by which sites reach this machine.
        port: port of nginx, for sites.
        superlink_port, health_port: ports of SuperLink and its health service, on this machine
            only.
        user: user of the systemd unit; "" for the current user.

    Raises:
        UserError: the folder exists already or cannot be written, or a host name is invalid.
    """
    certificates.check_hosts(hosts)
    settings = Settings(hosts=tuple(hosts), port=port, superlink_port=superlink_port, health_port=health_port)
    coordinator = Coordinator.create(folder, settings)
    certificates.make_authority(coordinator.certificates, f"fedtransfer {hosts[0]}"[:64])
    certificates.issue_server_certificate(coordinator.certificates, hosts)
    _write_nginx_site(coordinator)
    user, command = user or getpass.getuser(), Path(tool("fedtransfer"))
    unit = service_unit("server", "Coordinator of a federation", coordinator.folder, user, command)
    (coordinator.folder / UNIT).write_text(unit, "utf-8")
    return coordinator


def renew(coordinator: Coordinator, hosts: Sequence[str], *, authority: bool) -> Coordinator:
    """Renew the server's certificate; return the coordinator with the hosts of the new one.

    Args:
        coordinator: its folder.
        hosts: further names or addresses of this machine.
        authority: renew the authority's certificate first.

    Raises:
        UserError: a host name is invalid, or the authority has expired.
    """
    certificates.check_hosts(hosts)
    if authority:
        certificates.renew_authority(coordinator.certificates)
    former = coordinator.settings.hosts
    current = (*former, *(host for host in hosts if host not in former))
    certificates.issue_server_certificate(coordinator.certificates, current)
    if current == former:
        return coordinator  # nginx.conf keeps what was changed by hand
    coordinator = coordinator.with_hosts(current)
    _write_nginx_site(coordinator)
    return coordinator


def _write_nginx_site(coordinator: Coordinator) -> None:
    settings = coordinator.settings
    site = nginx_site(settings.hosts, settings.port, settings.superlink_port, coordinator.certificates)
    write_whole(coordinator.folder / "nginx.conf", site)
