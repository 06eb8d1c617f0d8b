"""The nginx site in front of a coordinator."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from fedtransfer.common.support.services import quoted

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

    # Arrays travel in pieces of 5 MiB and apps have at most 10 MiB, so no honest request comes near this limit.
    client_max_body_size 64m;
    client_body_timeout 300s;
    send_timeout 300s;

    # SuperLink asks for no credential on /v1/control/ (start and stop runs) and /v1/runtime/ (read and answer for a
    # run): whoever reaches these controls the federation. So only the part for sites, which checks keys, is open.
    # nginx matches the location below after it resolves .., // and %2f, but passes the path on as it was sent. So the
    # path is checked as it was sent, and SuperLink never sees such forms.
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


def nginx_site(hosts: Sequence[str], port: int, superlink_port: int, certificates: Path) -> str:
    """Return a configuration with which nginx passes only requests of sites on to SuperLink.

    Args:
        hosts: names and addresses by which sites reach this machine.
        port: port of nginx, for sites.
        superlink_port: port of SuperLink on this machine, with TLS.
        certificates: absolute path of the folder of ``ca.crt``, ``server.crt`` and ``server.key``.
    """
    return _NGINX_SITE.format(
        port=port,
        superlink_port=superlink_port,
        server_names=" ".join(_url_host(host) for host in hosts),
        certificate=quoted(certificates / "server.crt"),
        key=quoted(certificates / "server.key"),
        authority=quoted(certificates / "ca.crt"),
    )


def _url_host(host: str) -> str:
    try:
        return f"[{host}]" if isinstance(ip_address(host), IPv6Address) else host
    except ValueError:
        return host
