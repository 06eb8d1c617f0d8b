"""The coordinator's face to the network: an nginx of its own, which lets only enrolled sites in.

nginx.conf               its settings, whole: the machine's nginx service needs no change
certificates/sites.crt   trust anchors, one an enrolled site, which the supervisor writes
state/nginx.pid          written by nginx; the supervisor has it read its certificates again
"""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.keys import read_line
from fedtransfer.common.support.services import quoted
from fedtransfer.common.support.site_certificates import trust_anchor
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.enrolment import read_site

CONFIGURATION = "nginx.conf"

_TEMPLATE = """\
# The coordinator's face to the network, made by fedtransfer: all settings of an nginx of its own, which
# needs no privilege. Start it with: nginx -e stderr -c {configuration}

daemon off;
pid {pid};
error_log stderr;
worker_processes auto;
# Whoever reaches the port can open connections. Those that do not finish TLS and the headers of a
# request in client_header_timeout are closed, so this many idle ones a core do not keep sites out.
worker_rlimit_nofile 65536;
events {{
    worker_connections 16384;
}}

http {{
    access_log off;
    client_body_temp_path {temporary};
    proxy_temp_path {temporary};
    fastcgi_temp_path {temporary};
    uwsgi_temp_path {temporary};
    scgi_temp_path {temporary};
    server_tokens off;
    reset_timedout_connection on;
    # By the site's key and not by the address: many sites may share one address.
    limit_conn_zone $ssl_client_i_dn zone=site:4m;

    upstream superlink {{
        server 127.0.0.1:{superlink_port};
        keepalive 16;
        # Below SuperLink's 5 s, or requests would be lost on connections that it is closing.
        keepalive_timeout 2s;
    }}

    server {{
        listen {port} ssl backlog=4096;
        listen [::]:{port} ssl backlog=4096;  # remove this line where IPv6 is switched off
        server_name {server_names};

        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        # Every connection starts with the site's certificate: none goes on after the site is revoked.
        ssl_session_tickets off;
        ssl_session_cache off;

        # A certificate under the key of an enrolled site, or nothing of the request is passed on.
        ssl_verify_client on;
        ssl_client_certificate {authority};  # the one name that outsiders learn
        ssl_trusted_certificate {anchors};
        error_page 495 496 =401 @outsider;
        location @outsider {{
            return 401 "Only enrolled sites of the federation are served here.\\n";
        }}

        client_header_timeout 10s;
        client_body_timeout 30s;  # between two pieces of a body
        send_timeout 30s;
        # Arrays travel in pieces of 5 MiB, so no honest request comes near this limit.
        client_max_body_size 8m;
        limit_conn site 32;  # an honest site has six at most

        # SuperLink's /v1/control/ starts and stops runs, and /v1/runtime/ reads and answers for a run.
        # Only the part for sites, which checks keys, is open. nginx matches the location below after
        # it resolves .., // and %2f, but passes the path on as it was sent. So the path is checked as
        # it was sent, and SuperLink never sees such forms.
        default_type text/plain;
        if ($request_uri !~ "^/v1/fleet/[a-z-]+$") {{
            return 403 "Only sites of the federation are served here.\\n";
        }}

        location /v1/fleet/ {{
            proxy_pass https://superlink;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;  # no head is written to a disk here
            proxy_connect_timeout 10s;
            proxy_send_timeout 300s;
            proxy_read_timeout 300s;

            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
        }}
    }}
}}
"""


def configuration(coordinator: Coordinator) -> str:
    """Return the text of ``nginx.conf``."""
    settings, state, certificates = coordinator.settings, coordinator.state, coordinator.certificates
    files = {
        "configuration": coordinator.folder / CONFIGURATION, "pid": state / "nginx.pid",
        "temporary": state / "nginx", "certificate": certificates / "server.crt",
        "key": certificates / "server.key", "authority": certificates / "ca.crt",
        "anchors": certificates / "sites.crt",
    }  # fmt: skip
    return _TEMPLATE.format(
        server_names=" ".join(f"[{host}]" if ":" in host else host for host in settings.hosts),
        port=settings.port, superlink_port=settings.superlink_port,
        **{name: quoted(path) for name, path in files.items()},
    )  # fmt: skip


def program() -> str:
    """Return the path of nginx, where packages install it if it is missing here."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or (
        "/usr/sbin/nginx"
    )


class Gateway:
    """Follows the enrolled sites and the server's certificate, for nginx."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._anchors = coordinator.certificates / "sites.crt"
        self._state: tuple[int, ...] = ()

    def follow(self) -> None:
        """Write the trust anchors if enrolment has changed, and have nginx read changed files.

        Raises:
            UserError: a file is missing, the disk is full, or nginx runs as another user.
        """
        folder = self._coordinator.folder / "sites"
        files = (folder, *(self._coordinator.certificates / name for name in ("ca.crt", "server.crt")))
        try:
            state = tuple(path.stat().st_mtime_ns for path in files)
            if state == self._state:
                return
            write_anchors(self._coordinator)
        except OSError as error:
            remedy = "restore the file, or make room"
            raise UserError(f"{self._anchors}: cannot be written for nginx: {error}; {remedy}") from None
        self._reload()
        self._state = state

    def _reload(self) -> None:
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            number = int((self._coordinator.state / "nginx.pid").read_text())
            # The number in the file of a killed nginx may be another process's by now.
            if Path(f"/proc/{number}/comm").read_text() == "nginx\n":
                try:
                    os.kill(number, signal.SIGHUP)
                except PermissionError:
                    remedy = f"have it read its files again: kill -HUP {number}; start it as this user"
                    raise UserError(f"nginx runs as another user than the coordinator; {remedy}") from None


def write_anchors(coordinator: Coordinator) -> None:
    """Write ``sites.crt``: the authority, which nginx expects, and an anchor an enrolled site."""
    content = (coordinator.certificates / "ca.crt").read_bytes()
    for path in coordinator.key_files:
        with suppress(UserError):  # a damaged file, which the supervisor reports
            content += trust_anchor(read_line(read_site(path, path.stem).line))
    write_whole(coordinator.certificates / "sites.crt", content)
