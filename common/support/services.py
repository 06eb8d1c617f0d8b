"""A coordinator or a site as a service: the systemd unit that runs it, and whether it serves."""

from pathlib import Path

_UNIT = """\
# {description} as a service, made by fedtransfer.

[Unit]
Description={description} (fedtransfer)
Wants=network-online.target
After=network-online.target
# Never give up: a site whose coordinator is away tries again for as long as it takes.
StartLimitIntervalSec=0

[Service]
ExecStart={command} {role} start --dir {argument}
User={user}
# It is not restarted after its own stop command.
Restart=on-failure
RestartSec={pause}
# First this process alone gets SIGTERM, and stops its children; \
processes that still run after that are killed.
KillMode=mixed
TimeoutStopSec=30

NoNewPrivileges=yes
PrivateTmp=yes
# All but this folder is read-only, homes included. Homes are not hidden: folder and program may be there.
ProtectSystem=strict
ReadWritePaths={folder}

[Install]
WantedBy=multi-user.target
"""


def service_unit(role: str, description: str, folder: Path, user: str, command: Path, pause: int = 5) -> str:
    """Return the systemd unit that keeps ``fedtransfer ROLE start --dir FOLDER`` running.

    Args:
        role, description: ``server`` or ``client``, and the service in a few words.
        folder: the absolute path of its folder, the only one that it may write to.
        user, command: the account, and the absolute path of the ``fedtransfer`` program.
        pause: seconds before systemd restarts it.
    """
    # A per cent sign starts a specifier of systemd; a dollar sign, in arguments only, a variable.
    program, directory = (quoted(path).replace("%", "%%") for path in (command, folder))
    return _UNIT.format(
        description=description, command=program, role=role, argument=directory.replace("$", "$$"),
        folder=directory, user=user, pause=pause,
    )  # fmt: skip


def quoted(path: Path) -> str:
    """Quote a path for systemd and nginx alike."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def is_serving(address: str, seconds: float = 2.0) -> bool:
    """Whether gRPC's health service at ``address`` (host:port) says SERVING within ``seconds``."""
    import grpc  # here: founding a coordinator or a site needs the text of a unit only
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with grpc.insecure_channel(address) as channel:
        try:
            answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError:
            return False
    return bool(answer.status == HealthCheckResponse.SERVING)
