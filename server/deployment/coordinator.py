"""The coordinator's folder: its settings and its paths.

coordinator.toml  host names and ports      certificates/  certificates and their keys
federation.toml   settings of the next run  sites/         public keys of the enrolled sites
nginx.conf        nginx's settings          runs/          run folders
*.service         units of systemd          state/         SuperLink's database, logs, current run

The authority's private key is not in it, but in the folder next to it: FOLDER-authority/ca.key.
"""

import secrets
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
    """The settings in ``coordinator.toml``, where they are spelt with hyphens."""

    hosts: tuple[str, ...] = Field(min_length=1)  # names and addresses by which sites reach this machine
    port: int = Field(9443, ge=1, le=65535)  # of nginx, for sites
    superlink_port: int = Field(9092, ge=1, le=65535)  # on this machine only, as the next
    health_port: int = Field(9093, ge=1, le=65535)
    # Lifetime of a site's key, whose end is warned of; 0: without end.
    key_days: int = Field(default=730, ge=0)
    authority_key: str = "certificates/ca.key"  # relative to the folder; the default is of earlier versions


@dataclass(frozen=True)
class Coordinator:
    """A coordinator's folder, opened."""

    folder: Path
    settings: Settings

    @classmethod
    def create(cls, folder: Path, settings: Settings) -> "Coordinator":
        """Make the folder and write its settings.

        Raises:
            UserError: it exists already, or cannot be written.
        """
        if (folder / SETTINGS).exists():
            renewal = f"to replace its certificate: fedtransfer server renew --dir {folder}"
            raise UserError(f"{folder} is a coordinator's folder already; {renewal}")
        try:
            for part in ("certificates", "sites", "runs", "state"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / "state").chmod(0o700)
            coordinator = cls(folder.absolute(), settings)
            coordinator._write_settings()
        except OSError as error:
            raise UserError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None
        return coordinator

    @classmethod
    def open(cls, folder: Path) -> "Coordinator":
        """Open a folder that ``create`` made.

        Raises:
            UserError: it is not a coordinator's folder, or its settings are invalid.
        """
        path = folder / SETTINGS
        if not path.is_file():
            raise UserError(
                f"{folder.absolute()} is not a coordinator's folder (it has no {SETTINGS}); "
                "make one with fedtransfer server init DIR --host NAME, or name it with --dir"
            )
        return cls(folder.absolute(), read_settings(path, Settings))

    def with_hosts(self, hosts: Sequence[str]) -> "Coordinator":
        """Write other host names to the settings; return the coordinator with them."""
        coordinator = replace(self, settings=self.settings.model_copy(update={"hosts": tuple(hosts)}))
        coordinator._write_settings()
        return coordinator

    def _write_settings(self) -> None:
        write_whole(self.folder / SETTINGS, tomli_w.dumps(self.settings.model_dump(by_alias=True)))

    @property
    def certificates(self) -> Path:
        """Folder of keys and certificates."""
        return self.folder / "certificates"

    @property
    def key_files(self) -> list[Path]:
        """Files of the enrolled sites' public keys, in name order."""
        return sorted((self.folder / "sites").glob("*.pub"))

    @property
    def authority_key(self) -> Path:
        """The authority's private key, which only renewal needs."""
        return self.folder / self.settings.authority_key

    @property
    def state(self) -> Path:
        """Folder of files that only the running coordinator needs."""
        return self.folder / "state"

    @property
    def condition(self) -> Path:
        """File of SuperLink's condition: does it serve, since when, and why not."""
        return self.state / "superlink.json"

    @property
    def token(self) -> str:
        """The token for SuperLink's Control API, since its last start; "" before the first."""
        path = self._token
        return path.read_text("ascii") if path.exists() else ""

    def renew_token(self) -> str:
        """Make and return a new token, whose file only this user can read."""
        token = secrets.token_hex(32)
        write_whole(self._token, token, mode=0o600)
        return token

    @property
    def _token(self) -> Path:
        return self.state / "control.token"

    @property
    def superlink_address(self) -> str:
        """Address of SuperLink: host:port."""
        return f"127.0.0.1:{self.settings.superlink_port}"

    @property
    def health_address(self) -> str:
        """Address of SuperLink's health service: host:port."""
        return f"127.0.0.1:{self.settings.health_port}"
