"""What the machine's own services need to know of a coordinator: a site of nginx, and a unit of systemd."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path

_NGINX_SITE = """\
# The coordinator's face to the network, made by fedtransfer. Include this file in the http block of nginx.

upstream fedtransfer_{superlink_port} {{
    server 127.0.0.1:{superlink_port};
    keepalive 16;
    keepalive_timeout 2s;  # below SuperLink's 5 s, or requests would be lost on connections that it is closing
}}

server {{
    listen {port} ssl;
    listen [::]:{port} ssl;  # remove this line where IPv6 is switched off
    server_name {server_names};

    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;

    # Flower sends arrays in pieces of 5 MiB and apps of at most 10 MiB, so nothing near this bound is honest.
    client_max_body_size 64m;
    client_body_timeout 300s;
    send_timeout 300s;

    # SuperLink asks no credential for /v1/control/ (start and stop runs) and /v1/runtime/ (read and answer for a run):
    # whoever reaches these owns the federation. So only the part for sites, which checks their keys, is let through.
    # The path is judged as it was sent, since it is passed on as it was sent, while the location below is found by the
    # path with .., // and %2f resolved. What SuperLink would make of those is no matter: they do not get there.
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

_COORDINATOR_UNIT = """\
# The coordinator as a service, made by fedtransfer.

[Unit]
Description=Coordinator of a federation (fedtransfer)
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={command} server start --dir {argument}
User={user}
Restart=always
RestartSec=5
# First the coordinator alone is told to stop, and stops what it has started; what still runs after that is killed.
KillMode=mixed
TimeoutStopSec=30

NoNewPrivileges=yes
PrivateTmp=yes
# Everything is read-only, homes too, but the coordinator's folder. Homes are not hidden: folder and program may be there.
ProtectSystem=strict
ReadWritePaths={folder}

[Install]
WantedBy=multi-user.target
"""


def nginx_site(hosts: Sequence[str], port: int, superlink_port: int, certificates: Path) -> str:
    """Return the configuration by which nginx lets sites, and nothing else, through to SuperLink.

    Args:
        hosts: names and addresses by which sites reach this machine.
        port: where nginx listens for them.
        superlink_port: where SuperLink listens on this machine, with TLS.
        certificates: the absolute path of the folder that has ``ca.crt``, ``server.crt`` and ``server.key``.
    """
    return _NGINX_SITE.format(
        port=port,
        superlink_port=superlink_port,
        server_names=" ".join(_as_in_a_url(host) for host in hosts),
        certificate=_quoted(certificates / "server.crt"),
        key=_quoted(certificates / "server.key"),
        authority=_quoted(certificates / "ca.crt"),
    )


def coordinator_unit(folder: Path, user: str, command: Path) -> str:
    """Return the systemd unit that keeps a coordinator running.

    Args:
        folder: the absolute path of the coordinator's folder, the only place that it may write to.
        user: the account under which it runs.
        command: the absolute path of the ``fedtransfer`` program.
    """
    # A per cent sign starts one of systemd's specifiers; a dollar sign, in arguments only, a variable.
    program, place = (_quoted(path).replace("%", "%%") for path in (command, folder))
    return _COORDINATOR_UNIT.format(command=program, argument=place.replace("$", "$$"), folder=place, user=user)


def _quoted(path: Path) -> str:
    """Quote a path for nginx and systemd alike."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _as_in_a_url(host: str) -> str:
    try:
        return f"[{host}]" if isinstance(ip_address(host), IPv6Address) else host
    except ValueError:
        return host
