"""Folders of deployed sites, driven in this process: real apps, logs and consent, no network."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flwr.app import Context, Message
from pictures import class_folders

from fedtransfer.client.app import app as client_app
from fedtransfer.client.deployment.founding import found_site
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.task import recorded_answer
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.wire.bundle import build_bundle
from fedtransfer.server.app import make_app
from fedtransfer.server.deployment.coordinator import Coordinator, Settings
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process

Tamper = Callable[[Message, Context], Message]


class Deployment:
    """A coordinator's folder, and a folder for each site."""

    def __init__(self, root: Path, names: tuple[str, ...] = ("anna", "bert")) -> None:
        self.coordinator = Coordinator.create(root / "coordinator", Settings(hosts=("localhost",)))
        self.sites: Mapping[str, SiteFolder] = {
            name: found_site(
                root / name, name, "localhost:1", None, class_folders(root / "images" / name, number)
            )
            for number, name in enumerate(names)
        }
        self._bundle: Any = SimpleNamespace(content=build_bundle()[0])

    def edit(self, site: str, old: str, new: str) -> None:
        """Change a line of a site's settings."""
        path = self.sites[site].folder / "site.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def run(self, name: str, tamper: Tamper | None = None, **settings: Any) -> Path:
        """Run a federation; ``tamper`` may change a message and settings on their way to a site."""
        folder = self.coordinator.folder / "runs" / name
        config = RunConfig(**{"sites": len(self.sites), "rounds": 2, "out": str(folder), **settings})

        def app(message: Message, context: Context) -> Message:
            site = SiteFolder.open(Path(str(context.node_config["site"])))
            if tamper:
                message = tamper(message, context)
            return recorded_answer(site, client_app, message, context, self._bundle)

        nodes = [SimulatedSite(name, {"site": str(site.folder)}) for name, site in self.sites.items()]
        run_in_process(make_app(), app, nodes, config.to_flat(), 2)  # type: ignore[arg-type]
        return folder
