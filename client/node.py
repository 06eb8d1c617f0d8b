"""A node: where a site finds its images and keeps its state, and what it refuses.

A deployed node knows the site's folder from its node config (``client/deployment/node.py``). A node
of Flower's simulation has only a number, and works on the prepared site of that number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedtransfer.client.consent.ledger import SiteLedger
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.head.head import save_head
from fedtransfer.common.support.signatures import Identity
from fedtransfer.common.wire.protocol import MOMENTS, Task


@dataclass(frozen=True)
class Node:
    """A simulated node, which refuses nothing; ``client/deployment/node.py`` has the deployed one.

    Attributes:
        data: the site's images: folder, manifest or archive.
        state: folder of the site's state and results.
        partition: name of the prepared site, "" for a node with an enrolled name.
        least_images: classes with fewer training images are left out.
        changed: modification time of the site's settings; a newer one triggers re-preparation.
        patience: seconds until a query that waits for features gets their progress; None: it waits.
    """

    data: str
    state: Path
    partition: str = ""
    least_images: int = 0
    changed: int = 0
    patience: float | None = None

    @property
    def ledger(self) -> SiteLedger:
        """The record of privacy spent on the site's training images.

        Raises:
            UserError: see ``SiteLedger.open``.
        """
        return SiteLedger.open(self.state, durable=False)

    def settings(self, config: RunConfig) -> RunConfig:
        """Return a run's settings as they are at this site; a simulated site changes none."""
        return config

    def refuse(self, config: RunConfig, kind: str) -> None:
        """Raise a ``SiteError`` if the site does not consent; a simulated site always does."""

    def identity(self, name: str, public_keys: Mapping[str, str]) -> Identity | None:
        """Return the site's identity among the sites that share masks, or None if it has no key.

        The server gives its name, and site → public key (OpenSSH's one-line form). A simulated site
        has none and signs nothing: all sites are one process, with nobody in between.
        """
        return None

    def images(self) -> Sequence[Image]:
        """List the site's images."""
        return read_source(Path(self.data)).images

    def keep(self, task: Task, config: RunConfig, fingerprint: str, run: int, *, personal: bool = False) -> None:
        """Keep the head in ``task``: the result of a run, or the ``personal`` head made from it."""
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / ("personal-head.npz" if personal else "head.npz")
        save_head(path, task.head, task.classes, fingerprint, task.extra.get(MOMENTS), task.trainable)
