"""``fedtransfer server init``: make a coordinator's folder, with files for nginx and systemd."""

import getpass
from collections.abc import Sequence
from pathlib import Path

from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.processes import tool
from fedtransfer.common.support.services import quoted, service_unit
from fedtransfer.server.deployment import certificates
from fedtransfer.server.deployment.coordinator import Coordinator, Settings

UNIT = "fedtransfer-coordinator.service"

_NGINX_SITE = """\
# The coordinator's face to the network, made by fedtransfer. Include this file in the http block of nginx.

upstream fedtransfer_{superlink_port} {{
    server 127.0.0.1:{superlink_port};
    keepalive 16;
    # Below SuperLink's 5 s, or requests would be lost on connections that it is closing.
    keepalive_timeout 2s;
}}

server {{
    listen {port} ssl;
    listen [::]:{port} ssl;  # remove this line where IPv6 is switched off
    server_name {server_names};

    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;

    # Arrays travel in pieces of 5 MiB and apps have at most 10 MiB,
    # so no honest request comes near this limit.
    client_max_body_size 64m;
    client_body_timeout 300s;
    send_timeout 300s;

    # SuperLink asks for no credential on /v1/control/ (start and stop runs) and /v1/runtime/
    # (read and answer for a run): whoever reaches these controls the federation. So only the part
    # for sites, which checks keys, is open. nginx matches the location below after it resolves ..,
    # // and %2f, but passes the path on as it was sent. So the path is checked as it was sent,
    # and SuperLink never sees such forms.
    default_type text/plain;
    if ($request_uri !~ "^/v1/fleet/[a-z-]+$") {{
        return 403 "Only sites of the federation are served here.\\n";
    }}

    location /v1/fleet/ {{
        proxy_pass https://fedtransfer_{superlink_port};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_request_buffering off;
        proxy_connect_timeout 10s;
        proxy_send_timeout 300s;
        proxy_read_timeout 300s;

        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate {authority};
        proxy_ssl_name localhost;
        proxy_ssl_server_name on;
    }}
}}
"""


def found_coordinator(
    folder: Path, hosts: Sequence[str], *, port: int, superlink_port: int, health_port: int, user: str
) -> Coordinator:
    """Make the folder of a coordinator; the systemd unit runs as ``user``, by default you.

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
    """Renew the server's certificate with further ``hosts``, after the authority's if asked.

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


def nginx_site(hosts: Sequence[str], port: int, superlink_port: int, certificates: Path) -> str:
    """Return a configuration with which nginx passes only requests of sites on to SuperLink.

    ``certificates``: absolute path of the folder of ``ca.crt``, ``server.crt`` and ``server.key``.
    """
    return _NGINX_SITE.format(
        server_names=" ".join(f"[{host}]" if ":" in host else host for host in hosts), port=port,
        superlink_port=superlink_port, certificate=quoted(certificates / "server.crt"),
        key=quoted(certificates / "server.key"), authority=quoted(certificates / "ca.crt"),
    )  # fmt: skip


def _write_nginx_site(coordinator: Coordinator) -> None:
    settings = coordinator.settings
    site = nginx_site(settings.hosts, settings.port, settings.superlink_port, coordinator.certificates)
    write_whole(coordinator.folder / "nginx.conf", site)
