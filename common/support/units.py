"""The systemd unit that keeps a coordinator or a site running."""

from pathlib import Path

_UNIT = """\
# {description} as a service, made by fedtransfer.

[Unit]
Description={description} (fedtransfer)
Wants=network-online.target
After=network-online.target
# Never give up: a site whose coordinator is away is tried again for as long as it takes.
StartLimitIntervalSec=0

[Service]
ExecStart={command} {role} start --dir {argument}
User={user}
# Stopped by its own command it stays so.
Restart=on-failure
RestartSec={pause}
# First this process alone is told to stop, and stops what it has started; what still runs after that is killed.
KillMode=mixed
TimeoutStopSec=30

NoNewPrivileges=yes
PrivateTmp=yes
# Everything is read-only, homes too, but its own folder. Homes are not hidden: folder and program may be there.
ProtectSystem=strict
ReadWritePaths={folder}

[Install]
WantedBy=multi-user.target
"""


def service_unit(role: str, description: str, folder: Path, user: str, command: Path, pause: int = 5) -> str:
    """Return the systemd unit that keeps ``fedtransfer ROLE start --dir FOLDER`` running.

    Args:
        role: ``server`` or ``client``.
        description: the service, in a few words.
        folder: the absolute path of its folder, the only one that it may write to.
        user: the account under which it runs.
        command: the absolute path of the ``fedtransfer`` program.
        pause: seconds before systemd restarts it.
    """
    # A per cent sign starts one of systemd's specifiers; a dollar sign, in arguments only, a variable.
    program, directory = (quoted(path).replace("%", "%%") for path in (command, folder))
    return _UNIT.format(
        description=description, command=program, role=role, argument=directory.replace("$", "$$"), folder=directory,
        user=user, pause=pause,
    )  # fmt: skip


def quoted(path: Path) -> str:
    """Quote a path for systemd and nginx alike."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
