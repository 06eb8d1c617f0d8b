"""``fedtransfer server init``: make a coordinator's folder, with its authority and what nginx and systemd need."""

import getpass
from collections.abc import Sequence
from pathlib import Path

from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.processes import tool
from fedtransfer.common.support.units import service_unit
from fedtransfer.server.deployment import certificates
from fedtransfer.server.deployment.coordinator import Coordinator, Settings
from fedtransfer.server.deployment.nginx import nginx_site

UNIT = "fedtransfer-coordinator.service"


def found_coordinator(
    folder: Path, hosts: Sequence[str], *, port: int, superlink_port: int, health_port: int, user: str
) -> Coordinator:
    """Make the folder.

    Args:
        folder: to be made.
        hosts: names and addresses by which sites reach this machine.
        port: where nginx listens for them.
        superlink_port, health_port: where SuperLink and its health service listen, on this machine only.
        user: of the systemd unit; "" for the one who runs this.

    Raises:
        UserError: it is there already, cannot be written, or a host name is not right.
    """
    certificates.check_hosts(hosts)
    settings = Settings(hosts=tuple(hosts), port=port, superlink_port=superlink_port, health_port=health_port)
    coordinator = Coordinator.create(folder, settings)
    certificates.make_authority(coordinator.certificates, f"fedtransfer {hosts[0]}"[:64])
    certificates.issue_server_certificate(coordinator.certificates, hosts)
    _write_nginx_site(coordinator)
    who, command = user or getpass.getuser(), Path(tool("fedtransfer"))
    unit = service_unit("server", "Coordinator of a federation", coordinator.folder, who, command)
    (coordinator.folder / UNIT).write_text(unit, "utf-8")
    return coordinator


def renew(coordinator: Coordinator, hosts: Sequence[str], *, authority: bool) -> Coordinator:
    """Renew the server's certificate, for further names or addresses too if there are any; return the folder as it is then.

    Args:
        coordinator: its folder.
        hosts: what it is to be reached by besides.
        authority: renew the authority's own certificate first.

    Raises:
        UserError: a host name is not right, or the authority has expired.
    """
    certificates.check_hosts(hosts)
    if authority:
        certificates.renew_authority(coordinator.certificates)
    known = coordinator.settings.hosts
    everything = (*known, *(host for host in hosts if host not in known))
    certificates.issue_server_certificate(coordinator.certificates, everything)
    if everything == known:
        return coordinator  # and nginx.conf stays as it is, with what was changed there by hand
    renewed = coordinator.with_hosts(everything)
    _write_nginx_site(renewed)
    return renewed


def _write_nginx_site(coordinator: Coordinator) -> None:
    settings = coordinator.settings
    site = nginx_site(settings.hosts, settings.port, settings.superlink_port, coordinator.certificates)
    write_whole(coordinator.folder / "nginx.conf", site)
