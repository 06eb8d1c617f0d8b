"""``fedtransfer server init``: make a coordinator's folder, with files for nginx and systemd."""

import getpass
from collections.abc import Sequence
from pathlib import Path

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.processes import tool
from fedtransfer.common.support.services import NO_DEVICES, service_unit, word
from fedtransfer.server.deployment import certificates, gateway
from fedtransfer.server.deployment.coordinator import SETTINGS, Coordinator, Settings

UNIT, GATEWAY_UNIT = "fedtransfer-coordinator.service", "fedtransfer-gateway.service"
# SuperLink and the round loop talk on loopback only.
_LOOPBACK = (
    "# The network: this machine alone. Remove both lines if MLflow or Keras weights are elsewhere.",
    "IPAddressDeny=any", "IPAddressAllow=localhost",
)  # fmt: skip
_NGINX = ("ProcSubset=pid", "MemoryDenyWriteExecute=yes", "LimitNOFILE=65536")


def found_coordinator(
    folder: Path, hosts: Sequence[str], *, port: int, superlink_port: int, health_port: int, user: str
) -> Coordinator:
    """Make the folder of a coordinator; the systemd unit runs as ``user``, by default you.

    Raises:
        UserError: the folder exists already or cannot be written, or a host name is invalid.
    """
    certificates.check_hosts(hosts)
    settings = Settings(
        hosts=tuple(hosts), port=port, superlink_port=superlink_port, health_port=health_port,
        authority_key=f"../{folder.absolute().name}-authority/ca.key",
    )  # fmt: skip
    coordinator = Coordinator.create(folder, settings)
    directory, key = coordinator.certificates, coordinator.authority_key
    try:
        certificates.make_authority(directory, f"fedtransfer {hosts[0]}"[:64], key_file=key)
    except UserError:
        (folder / SETTINGS).unlink()  # it would refuse the next try
        raise
    certificates.issue_server_certificate(directory, hosts, key_file=key)
    gateway.write_anchors(coordinator)
    _write_gateway(coordinator)
    for name, unit in _units(coordinator, user or getpass.getuser()).items():
        write_whole(coordinator.folder / name, unit)
    return coordinator


def _units(coordinator: Coordinator, user: str) -> dict[str, str]:
    folder = coordinator.folder
    # The service never signs. A missing folder is no error.
    hidden = f"InaccessiblePaths={word(Path(f'-{coordinator.authority_key.parent.resolve()}'))}"
    command = (Path(tool("fedtransfer")), "server", "start", "--dir", folder)
    nginx = (Path(gateway.program()), "-e", "stderr", "-c", folder / gateway.CONFIGURATION)
    here = folder, user
    return {
        UNIT: service_unit("Coordinator of a federation", command, *here, (NO_DEVICES, hidden, *_LOOPBACK)),
        GATEWAY_UNIT: service_unit("nginx of a coordinator", nginx, *here, (NO_DEVICES, hidden, *_NGINX)),
    }


def renew(coordinator: Coordinator, hosts: Sequence[str], *, authority: bool) -> Coordinator:
    """Renew the server's certificate with further ``hosts``, after the authority's if asked.

    Raises:
        UserError: a host name is invalid, or the authority has expired.
    """
    certificates.check_hosts(hosts)
    key = coordinator.authority_key
    if authority:
        certificates.renew_authority(coordinator.certificates, key_file=key)
    former = coordinator.settings.hosts
    current = (*former, *(host for host in hosts if host not in former))
    certificates.issue_server_certificate(coordinator.certificates, current, key_file=key)
    if current == former and (coordinator.folder / gateway.CONFIGURATION).exists():
        return coordinator  # nginx.conf keeps what was changed by hand
    coordinator = coordinator.with_hosts(current)
    _write_gateway(coordinator)
    return coordinator


def _write_gateway(coordinator: Coordinator) -> None:
    write_whole(coordinator.folder / gateway.CONFIGURATION, gateway.configuration(coordinator))
