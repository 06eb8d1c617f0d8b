"""A coordinator, its nginx or a site as a service: the systemd unit, and whether it serves."""

from collections.abc import Sequence
from pathlib import Path

NO_DEVICES = "PrivateDevices=yes"
_UNIT = """\
# {description} as a service, made by fedtransfer.

[Unit]
Description={description} (fedtransfer)
Wants=network-online.target
After=network-online.target
# Never give up: a site whose coordinator is away tries again for as long as it takes.
StartLimitIntervalSec=0

[Service]
ExecStart={command}
User={user}
# It is not restarted after its own stop command.
Restart=on-failure
RestartSec={pause}
# First this process alone gets SIGTERM, and stops its children; \
processes that still run after that are killed.
KillMode=mixed
TimeoutStopSec=30

# Files: all but this folder is read-only. Homes are not hidden: folder and program may be there.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={folder}
PrivateTmp=yes
UMask=0077
# Memory, which can be less, and no keys in core dumps.
MemoryMax=80%
LimitCORE=0
# Privileges: none, and no way to get one.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictSUIDSGID=yes
RestrictNamespaces=yes
PrivateUsers=yes
RemoveIPC=yes
# The kernel: what servers and computation need.
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictRealtime=yes
LockPersonality=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
{lines}

[Install]
WantedBy=multi-user.target
"""


def service_unit(
    description: str, command: Sequence[str | Path], folder: Path, user: str, lines: Sequence[str],
    pause: int = 5,
) -> str:  # fmt: skip
    """Return the systemd unit that keeps a command running, with as few rights as it needs.

    Args:
        description: the service in a few words.
        command: the absolute path of a program, and its arguments; paths are quoted.
        folder: the absolute path of the only folder that it may write to.
        user: the account.
        lines: further settings of this service.
        pause: seconds before systemd restarts it.
    """
    program, *arguments = (word(part) for part in command)
    # A dollar sign starts a variable of systemd, in arguments only.
    words = [program, *(part.replace("$", "$$") for part in arguments)]
    return _UNIT.format(
        description=description, command=" ".join(words), folder=word(folder), user=user, pause=pause,
        lines="\n".join(lines),
    )  # fmt: skip


def word(text: str | Path) -> str:
    """Return a word of a unit; a path is quoted."""
    text = quoted(text) if isinstance(text, Path) else text
    return text.replace("%", "%%")  # it starts a specifier of systemd


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
