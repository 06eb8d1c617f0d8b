"""Where a node finds its images and keeps its state, and what it may refuse.

A node of a deployment is told the site's folder by its node config, and has a say of its own
(``client/deployment/place.py``). A node of Flower's own simulation has a number only, and works for the prepared site
of that number.
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
    """A node of a simulation, which refuses nothing; ``fedtransfer.client.deployment.node`` has that of a real site.

    Attributes:
        data: the site's images: folder, manifest or archive.
        state: a folder of the site's own, where the result is kept.
        partition: name of the prepared site, "" for a node that has a name of its own.
        least_images: a class with fewer training images than this is kept out.
        changed: when the site's settings last were, so that a site is prepared anew by new ones.
        patience: seconds that a query waits for the features before it answers how far they are; None: to the end.
    """

    data: str
    state: Path
    partition: str = ""
    least_images: int = 0
    changed: int = 0
    patience: float | None = None

    @property
    def ledger(self) -> SiteLedger:
        """What the site's training images have been part of.

        Raises:
            UserError: see ``SiteLedger.open``.
        """
        return SiteLedger.open(self.state, durable=False)

    def settings(self, config: RunConfig) -> RunConfig:
        """Return a run's settings as they are here: a simulated site has none of its own."""
        return config

    def refuse(self, config: RunConfig, kind: str) -> None:
        """Raise a ``SiteError`` where a message asks for more than the site allows: a simulated one allows all."""

    def identity(self, name: str, told: Mapping[str, str]) -> Identity | None:
        """Return who the site is among those that it shares masks with, where it is enrolled by a key.

        A simulated site is not, and signs nothing: all sites are one process there, with nobody between them.

        Args:
            name: the site's name, as the server says.
            told: names → public keys (OpenSSH's one-line form) of the others, as the server says.
        """
        return None

    def images(self) -> Sequence[Image]:
        """List the site's images."""
        return read_source(Path(self.data)).images

    def keep(self, task: Task, config: RunConfig, fingerprint: str, run: int) -> None:
        """Keep the head that a run ended with."""
        self.state.mkdir(parents=True, exist_ok=True)
        save_head(
            self.state / "head.npz", task.head, task.classes, fingerprint, task.extra.get(MOMENTS), task.trainable
        )

    def keep_personal(self, task: Task, config: RunConfig, fingerprint: str, run: int) -> None:
        """Keep the head in ``task``, which the site made of the result for itself."""
        self.state.mkdir(parents=True, exist_ok=True)
        save_head(
            self.state / "personal-head.npz",
            task.head,
            task.classes,
            fingerprint,
            task.extra.get(MOMENTS),
            task.trainable,
        )
