"""The coordinator's folder: its settings and where its things are.

coordinator.toml  host names and ports            certificates/  the authority's and the server's, with their keys
federation.toml   settings of the next run        sites/         the enrolled sites' public keys
nginx.conf        what faces the network          runs/          a run folder a run
*.service         a systemd unit                  state/         SuperLink's database, logs, what runs at the moment
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w
from pydantic import Field

from fedtransfer.common.config.toml_settings import Table, read_settings
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole

SETTINGS = "coordinator.toml"


class Settings(Table):
    """What ``coordinator.toml`` holds; spelt with hyphens there.

    Attributes:
        hosts: names and addresses by which sites reach this machine.
        port: where nginx listens for them.
        superlink_port: where Flower's SuperLink listens, on this machine only.
        health_port: where its health service listens, on this machine only.
    """

    hosts: tuple[str, ...] = Field(min_length=1)
    port: int = Field(9443, ge=1, le=65535)
    superlink_port: int = Field(9092, ge=1, le=65535)
    health_port: int = Field(9093, ge=1, le=65535)


@dataclass(frozen=True)
class Coordinator:
    """A coordinator's folder, opened."""

    folder: Path
    settings: Settings

    @classmethod
    def create(cls, folder: Path, settings: Settings) -> "Coordinator":
        """Make the folder and write its settings.

        Raises:
            UserError: there is one already, or it cannot be made.
        """
        if (folder / SETTINGS).exists():
            raise UserError(
                f"{folder} is a coordinator's folder already; to replace its certificate: fedtransfer server renew --dir {folder}"
            )
        try:
            for part in ("certificates", "sites", "runs", "state"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / "state").chmod(0o700)
            made = cls(folder.absolute(), settings)
            made._write_settings()
        except OSError as error:
            raise UserError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None
        return made

    @classmethod
    def open(cls, folder: Path) -> "Coordinator":
        """Open a folder that ``create`` made.

        Raises:
            UserError: it is none, or its settings are not right.
        """
        path = folder / SETTINGS
        if not path.is_file():
            raise UserError(
                f"{folder.absolute()} is no coordinator's folder (it has no {SETTINGS}); "
                "make one with fedtransfer server init DIR --host NAME, or name it with --dir"
            )
        return cls(folder.absolute(), read_settings(path, Settings))

    def with_hosts(self, hosts: Sequence[str]) -> "Coordinator":
        """Write other host names into the settings; return the folder with them."""
        changed = replace(self, settings=self.settings.model_copy(update={"hosts": tuple(hosts)}))
        changed._write_settings()
        return changed

    def _write_settings(self) -> None:
        write_whole(self.folder / SETTINGS, tomli_w.dumps(self.settings.model_dump(by_alias=True)))

    @property
    def certificates(self) -> Path:
        """Where keys and certificates are."""
        return self.folder / "certificates"

    @property
    def state(self) -> Path:
        """What only the running coordinator needs."""
        return self.folder / "state"

    @property
    def superlink_address(self) -> str:
        """Where SuperLink listens: host:port."""
        return f"127.0.0.1:{self.settings.superlink_port}"

    @property
    def health_address(self) -> str:
        """Where SuperLink's health service listens: host:port."""
        return f"127.0.0.1:{self.settings.health_port}"
