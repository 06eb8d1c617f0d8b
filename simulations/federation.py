"""A simulated federation in five steps: load, extract, train, score, write."""

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import ServerApp

from fedtransfer.client.app import make_app as make_client_app
from fedtransfer.client.data import SiteData
from fedtransfer.client.training.personal import Split
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.data.images import Problem
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import Moments
from fedtransfer.common.head.head import head_spec, load_head, load_layer, load_moments
from fedtransfer.common.seeds import generator
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.pictures import save_heat_map
from fedtransfer.common.support.processes import CORES
from fedtransfer.server.app import make_app
from fedtransfer.server.run_folder import folder as run_folder
from fedtransfer.server.run_folder.checkpoint import FREE
from fedtransfer.server.strategies import strategy_of, with_strategy
from fedtransfer.server.strategies.strategy import Strategy
from fedtransfer.simulations.data.features import Features, announce, find_warnings, prepare_sites
from fedtransfer.simulations.data.sites import Data, load, write_sites
from fedtransfer.simulations.data.unseen import adapt_unseen
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process
from fedtransfer.simulations.hostility.attackers import Attackers
from fedtransfer.simulations.scoring.baselines import Baselines, measure, run_baselines

log = logging.getLogger(__name__)

_MOST_SITES = 1000  # in a picture


@dataclass(frozen=True)
class Result:
    """A finished simulation."""

    folder: Path  # the run folder
    summary: dict[str, Any]  # its ``summary.json``
    baselines: Baselines | None  # their scores, None for a run without baselines
    problems: tuple[Problem, ...]  # what could not be read
    sites: Mapping[str, SiteData]  # those that took part, with their features


def simulate(
    config: RunConfig, display: Display, *, force: bool = False, began: float | None = None,
    strategy: Strategy | None = None,
) -> Result:  # fmt: skip
    """Run a whole simulated federation, and show its progress.

    Args:
        config, display: what to run, and where progress is shown.
        force: replace the run folder if it is there.
        began: ``time.monotonic()`` when the program started, so that its imports count.
        strategy: an object that takes the place of ``config.strategy``.

    Raises:
        UserError: the data, the backbone or the settings cannot work.
    """
    began = time.monotonic() if began is None else began
    config = with_strategy(config, strategy) if strategy else config
    strategy = strategy_of(config, strategy)  # fails here, before any work, if it cannot be loaded
    folder = Path(config.out or default_folder(config)).absolute()
    if not config.resume:
        run_folder.check_folder(folder, force=force)
    data = load(config.model_copy(update={"out": str(folder)}))
    features = extract(data, display)
    train(data, features, folder, display, strategy)
    scores = score(data, features, folder, display)
    return write(data, features, scores, folder, began)


def extract(data: Data, display: Display) -> Features:
    """Extract the features of all sites and divide their images; the only step that reads pixels.

    Raises:
        UserError: the backbone is not usable, or no image can be read.
    """
    began = time.monotonic()
    announce(data, display)
    with display.bar("Features", "images") as progress:
        features = prepare_sites(data, progress)
    seconds = time.monotonic() - began
    return replace(features, seconds=seconds, warnings=find_warnings(data, features, display))


def train(
    data: Data, features: Features, folder: Path, display: Display, strategy: Strategy | None = None
) -> None:
    """Run the federation on the engine of the settings; the run folder gets head and history.

    Each site has its manifest in the run folder. Clients of another process prepare their sites
    from it like real ones; those of this process take the ``features`` that are here.

    Raises:
        UserError: the federation cannot start, or stops.
        KeyboardInterrupt: the run was interrupted; it can be resumed.
    """
    config = data.config
    if not config.resume:
        run_folder.clear_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_settings(folder, config)  # first: a run killed from here on can be resumed
    manifests = write_sites(folder, config, data.sites)
    if config.engine == "deployment":
        from fedtransfer.simulations.engines.deployment import deployed

        with deployed(manifests, config, display.print) as federation:
            federation.run()
        return
    attackers = attackers_of(data, features)
    try:
        with display.rounds(config) as callback:
            run_on_engine(make_app([callback], strategy), manifests, config, features.sites, attackers)
    except KeyboardInterrupt:
        display.print(f"Stopped. To go on: fedtransfer simulate --resume {shlex.quote(str(folder))}")
        raise


def attackers_of(data: Data, features: Features) -> Attackers | None:
    """Return the hostile sites of a simulation; None if all are honest."""
    sites = {name: features.sites[name] for name in data.sites}
    return Attackers.draw(data.config, sites) if data.config.hostile_sites else None


def score(
    data: Data, features: Features, folder: Path, display: Display
) -> tuple[Baselines | None, dict[str, Any]]:
    """Measure what sites do not report, train the baselines, and adapt the head at unseen sites.

    Return the baselines' scores, None for a run without them; and entries of ``summary.json``.
    """
    config, file = data.config, folder / "head.npz"
    head, classes, _ = load_head(file)
    moments, layer = load_moments(file), load_layer(file)
    sites = {name: features.sites[name] for name in data.sites}
    baselines, summary = None, dict[str, Any]()
    if attackers := attackers_of(data, features):
        summary["attack"] = attackers.achieved(sites, classes, head, moments, layer)
    if config.hides_counts or config.public_data:  # a simulation can score what sites do not report
        measured = measure(config, sites, classes, moments, head, layer)
        summary["measured_outside_the_federation"] = measured.summary
    if config.baselines:
        with display.bar("Baselines", "heads") as progress:
            baselines = run_baselines(config, sites, classes, moments, progress)
        summary |= baselines.summary
    if data.unseen:
        spec = head_spec(config, configured_backbone(config), len(classes), layer)
        unseen = {
            name: {
                split: _examples(features.sites[name], split, classes, moments, layer)
                for split in ("train", "test")
            }
            for name in data.unseen
        }
        with display.bar("Unseen sites", "sites") as progress:
            adapted = adapt_unseen(config, spec, head, unseen, progress)
        others = sum(image.label not in classes for images in data.unseen.values() for image in images)
        summary["unseen_sites"] = {**adapted, "images_of_other_classes": others}
    return baselines, summary


def _examples(
    site: SiteData, split: str, classes: tuple[str, ...], moments: Moments | None, layer: str
) -> Split:
    """Return features (n, d') and class numbers (n,) of a split, without unknown classes."""
    number = {name: i for i, name in enumerate(classes)}
    rows = [i for i, label in enumerate(site.labels[split].tolist()) if label in number]
    labels = np.array([number[site.labels[split][i]] for i in rows], np.int64)
    return site.features(moments, layer)[split][rows], labels


def write(
    data: Data,
    features: Features,
    scores: tuple[Baselines | None, Mapping[str, Any]],
    folder: Path,
    began: float,
) -> Result:
    """Complete ``summary.json``, draw the partition, and return the finished simulation."""
    baselines, more = scores
    summary = {**run_folder.read_summary(folder), **more}
    problems = (*data.problems, *features.extraction.problems)
    sites = {name: features.sites[name] for name in data.sites}
    plot_partition(sites, summary["classes"], folder / "partition.png", hidden=data.config.hides_counts)
    summary["features"] = {"extracted": features.extraction.extracted, "reused": features.extraction.reused}
    summary["device"] = features.device
    summary["images_unreadable"] = len(problems)
    summary["warnings"] = list(features.warnings)
    summary["seconds"] |= {
        "features": round(features.seconds, 3),
        "total": round(time.monotonic() - began, 3),
    }
    run_folder.write_summary(folder, summary)
    return Result(folder, run_folder.read_summary(folder), baselines, problems, sites)


def plot_partition(
    sites: Mapping[str, SiteData], classes: Sequence[str], path: Path, *, hidden: bool
) -> None:
    """Draw numbers of training and validation images; if ``hidden``, sites tell nobody of them.

    Of very many sites a random sample is drawn, which the title says.
    """
    sample = list(sites)
    if len(sites) > _MOST_SITES:
        sample = sorted(map(str, generator(0, "sites of a picture").permutation(sample)[:_MOST_SITES]))
    images = [sites[name].images_by_class() for name in sample]
    counts = np.array([[sum(by_class.get(name, (0, 0))[:2]) for name in classes] for by_class in images])
    title = "Images for training and validation, by site and class"
    title += "\n(known to the simulation alone: sites tell nobody)" * hidden
    if len(sample) < len(sites):
        title += f"\n(a random sample of {len(sample):,} of {len(sites):,} sites)"
    save_heat_map(path, counts, sample, classes, title, ("class", "site"))


def prepare(config: RunConfig, folder: Path, *, force: bool = False) -> int:
    """Write settings and manifests for Flower's simulation; return the number of sites, its nodes.

    Raises:
        UserError: the data cannot be read or divided, or the folder holds something already.
    """
    run_folder.check_folder(folder, force=force)
    places = {"prepared": str(folder.absolute()), "out": str(folder.absolute() / "run")}
    data = load(config.model_copy(update=places))
    for problem in data.problems:
        log.warning("left out %s: %s", problem.path, problem.reason)
    run_folder.clear_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.toml", data.config.to_toml())
    write_sites(folder, data.config, data.sites)
    return len(data.sites)


def resumed_config(run: Path, settings: Mapping[str, Any]) -> RunConfig:
    """Return the settings of the run in a folder, which goes on, updated with ``settings``.

    Free to change is how, how long or where a run computes; not free is what it computes.

    Raises:
        UserError: there is no run; or one of ``settings`` cannot change.
    """
    if fixed := sorted(set(settings) - FREE | set(settings) & {"out"}):
        free = ", ".join(sorted(FREE - {"out", "resume", "prepared"}))  # which are no options
        raise UserError(f"--resume: {', '.join(fixed)} cannot change in mid-run; these may: {free}")
    return make_config({**run_folder.settings_of(run).to_flat(), **settings}, "options")


def run_on_engine(
    server_app: ServerApp, manifests: Mapping[str, Path], config: RunConfig,
    prepared: Mapping[str, SiteData] | None = None, attackers: Attackers | None = None,
) -> None:  # fmt: skip
    """Run the apps on the engine that the config names, in process or on Ray.

    Args:
        server_app, config: what to run.
        manifests: site → its manifest, for the sites that take part.
        prepared: site → its data, if this process has prepared it already.
        attackers: hostile ones among them, whose data are prepared; in process only.
    """
    if config.engine == "ray":
        from fedtransfer.simulations.engines.ray import run_on_ray

        with_sites = config.model_copy(update={"prepared": config.out})
        run_on_ray(server_app, make_client_app(), len(manifests), with_sites)
        return
    if attackers and prepared:
        prepared = attackers.poisoned(prepared)
    here = {str(path): prepared[name] for name, path in manifests.items()} if prepared else {}
    sites = [
        SimulatedSite(name, {"data": str(path), "state": str(path.parent)})
        for name, path in manifests.items()
    ]
    alter = attackers.alter if attackers else None
    run_in_process(server_app, make_client_app(here), sites, config.to_flat(), config.threads or CORES, alter)


def default_folder(config: RunConfig) -> Path:
    """Return a run folder that does not exist yet, named after the data and the time."""
    name = f"{Path(config.data).stem or 'run'}-{datetime.now():%Y%m%d-%H%M%S}"
    numbered = (Path("runs") / f"{name}{end}" for end in chain([""], (f"-{k}" for k in count(2))))
    return next(folder for folder in numbered if not folder.exists())
