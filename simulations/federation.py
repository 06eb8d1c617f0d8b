"""A simulated federation from config to run folder: sites are made, features extracted, rounds run, baselines scored."""

import logging
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flwr.serverapp import ServerApp

from fedtransfer.client.app import app as client_app
from fedtransfer.client.app import forget_sites
from fedtransfer.client.data import prepare_site
from fedtransfer.common.backbone.backbone import Backbone, configured_backbone
from fedtransfer.common.compute import CORES, device
from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig
from fedtransfer.common.data.checks import examine, examine_sites
from fedtransfer.common.data.images import Image, Problem
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.data.splits import split_of
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.extraction import Extraction
from fedtransfer.common.features.feature_map import feature_width
from fedtransfer.common.features.preparation import extract_all
from fedtransfer.common.head.cost import costs
from fedtransfer.common.head.head import load_head, load_layer, load_moments
from fedtransfer.common.head.spec import head_spec
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.support.files import write_whole
from fedtransfer.server.app import make_app
from fedtransfer.server.run_folder.folder import (
    check_folder,
    clear_folder,
    read_summary,
    write_settings,
    write_summary,
)
from fedtransfer.server.strategies.choice import strategy_of, with_strategy
from fedtransfer.server.strategies.strategy import Strategy
from fedtransfer.simulations.data.datasets import NAMES, declare_classes, resolve_data
from fedtransfer.simulations.data.sites import sites_of, taken_for_classes, write_sites
from fedtransfer.simulations.data.unseen import adapt_unseen, set_aside
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process
from fedtransfer.simulations.plots import plot_partition
from fedtransfer.simulations.privacy.strength import delta_warning, strength
from fedtransfer.simulations.scoring.baselines import Baselines, measure, run_baselines

log = logging.getLogger(__name__)


def prepare(config: RunConfig, folder: Path, *, force: bool = False) -> int:
    """Write the settings and the sites' manifests for Flower's own simulation, and extract nothing yet.

    Returns:
        The number of sites, which the simulation must have as nodes.

    Raises:
        UserError: the data cannot be read or divided, or the folder holds something already.
    """
    check_folder(folder, force=force)
    images_of, problems = sites_of(config)
    for problem in problems:
        log.warning("left out %s: %s", problem.path, problem.reason)
    taking_part, _ = set_aside(images_of, config)
    config = declare_classes(config, images_of)
    clear_folder(folder)
    places = {"prepared": str(folder.absolute()), "out": str(folder.absolute() / "run")}
    config = config.model_copy(update={"sites": len(images_of), **places, **_absolute_paths(config)})
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.toml", config.to_toml())
    write_sites(folder, config, taking_part)
    return len(taking_part)


@dataclass(frozen=True)
class Result:
    """A finished simulation: its folder, its ``summary.json``, its baselines if any, and what could not be read."""

    folder: Path
    summary: dict[str, Any]
    baselines: Baselines | None
    problems: tuple[Problem, ...]


def simulate(
    config: RunConfig,
    display: Display,
    *,
    force: bool = False,
    began: float | None = None,
    strategy: Strategy | None = None,
) -> Result:
    """Run a whole simulated federation.

    Args:
        config: what to run.
        display: shows progress.
        force: replace the run folder if it is there.
        began: ``time.monotonic()`` when the program started, so that the total includes its imports.
        strategy: one that is an object; it takes the place of ``config.strategy``.

    Raises:
        UserError: anything about the data, the backbone or the settings that cannot work.
    """
    began = time.monotonic() if began is None else began
    config = with_strategy(config, strategy) if strategy else config
    strategy = strategy_of(config, strategy)  # refuses one that cannot be made, before any work
    folder = Path(config.out or _default_folder(config)).absolute()
    if not config.resume:
        check_folder(folder, force=force)
    images_of, problems = sites_of(config)
    taking_part, unseen = set_aside(images_of, config)
    config = declare_classes(config, images_of)
    config = config.model_copy(update={"sites": len(images_of), "out": str(folder), **_absolute_paths(config)})

    extraction_began = time.monotonic()
    extraction = _extract(config, [image for images in images_of.values() for image in images], display)
    problems += extraction.problems
    if not any(key for key in extraction.keys):
        raise UserError(
            f"none of the {len(extraction.keys)} images of {config.data} can be read; the first: {problems[0].path}: {problems[0].reason}"
        )
    features_seconds = time.monotonic() - extraction_began
    splits = _splits(config, images_of, extraction)
    warnings = examine(
        [image for images in images_of.values() for image in images],
        extraction.keys,
        [split for mine in splits.values() for split in mine],
    ) + examine_sites(splits)
    warnings += taken_for_classes(config) + _compare_noise(config, splits, display)
    for warning in warnings:
        display.warn(warning)

    if not config.resume:
        clear_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(folder, config)  # first: a run killed from here on is known as one, and can be resumed
    manifests = write_sites(folder, config, taking_part)
    if config.engine == "deployment":
        from fedtransfer.simulations.engines.deployment import deployed

        with deployed(manifests, config, display.print) as federation:
            federation.run()
    else:
        try:
            with display.rounds(config) as shown:
                run_on_engine(make_app([shown], strategy), manifests, config)
        except KeyboardInterrupt:
            display.print(f"Stopped. To go on: fedtransfer simulate --resume {shlex.quote(str(folder))}")
            raise
        forget_sites()

    summary = read_summary(folder)
    classes = tuple(summary["classes"])
    baselines, hidden, moments = None, config.hides_counts or config.public_data, load_moments(folder / "head.npz")
    if config.baselines or hidden:
        prepared = {name: prepare_site(read_source(manifest).images, config) for name, manifest in manifests.items()}
    if hidden:  # a simulation knows what the sites keep to themselves
        head, layer = load_head(folder / "head.npz")[0], load_layer(folder / "head.npz")
        summary["measured_outside_the_federation"] = measure(config, prepared, classes, moments, head, layer).summary
    if config.baselines:
        with display.bar("Baselines", "heads") as progress:
            baselines = run_baselines(config, prepared, classes, moments, progress)
        summary |= baselines.summary
    if unseen:
        summary["unseen_sites"] = _unseen_summary(config, unseen, classes, folder, display)
    counts = {
        site: Counter(
            i.label for i, split in zip(images, splits[site], strict=True) if split in ("train", "validation")
        )
        for site, images in taking_part.items()
    }
    plot_partition(counts, classes, folder / "partition.png", hidden=config.hides_counts)
    summary["features"] = {"extracted": extraction.extracted, "reused": extraction.reused}
    summary["images_unreadable"] = len(problems)
    summary["warnings"] = warnings
    summary["seconds"] |= {"features": round(features_seconds, 3), "total": round(time.monotonic() - began, 3)}
    write_summary(folder, summary)
    return Result(folder, read_summary(folder), baselines, tuple(problems))


def run_on_engine(server_app: ServerApp, manifests: Mapping[str, Path], config: RunConfig) -> None:
    """Run the apps for these sites on the engine that the config names, in process or on Ray."""
    if config.engine == "ray":
        from fedtransfer.simulations.engines.ray import run_on_ray

        run_on_ray(server_app, client_app, len(manifests), config.model_copy(update={"prepared": config.out}))
        return
    sites = [SimulatedSite(name, {"data": str(path), "state": str(path.parent)}) for name, path in manifests.items()]
    run_in_process(server_app, client_app, sites, config.to_flat(), config.threads or CORES)


def _default_folder(config: RunConfig) -> Path:
    data = Path(config.data).stem or "run"
    return Path("runs") / f"{data}-{datetime.now():%Y%m%d-%H%M%S}"


def _absolute_paths(config: RunConfig) -> dict[str, str]:
    """Make paths independent of the folder that the run was started from, so that its config repeats it anywhere."""
    names = {
        "data": NAMES,
        "backbone": (BUNDLED, *KERAS_BACKBONES),
        "weights": ("",),
        "feature_statistics": ("",),
        "store": ("",),
        "log_json": ("", "-"),
    }
    settings = {key: (str(getattr(config, key)), known) for key, known in names.items()}
    public = {"public_data": str(resolve_data(config.public_data).absolute())} if config.public_data else {}
    return public | {
        key: str(Path(value).expanduser().resolve()) for key, (value, known) in settings.items() if value not in known
    }


def _extract(config: RunConfig, images: Sequence[Image], display: Display) -> Extraction:
    """Extract the features of all sites in one pass, so that batches are full however small the sites are."""
    with display.bar("Loading the backbone") as progress:
        backbone = configured_backbone(config)
        progress(1, 1)
    display.print(f"Backbone {backbone.name} at {backbone.resolution} px on {device()}; heads on the CPU")
    for note in backbone.notes:
        display.print(note)
    _tell_costs(config, backbone, images, display)
    with display.bar("Features", "images") as progress:
        extraction, _ = extract_all(backbone, images, config, progress)
    return extraction


def _tell_costs(config: RunConfig, backbone: Backbone, images: Sequence[Image], display: Display) -> None:
    """Say what is trained and what that takes, before it begins."""
    if config.closed_form:
        return
    given = sum(image.split in ("", "train") for image in images)  # what may be trained on
    views = round(given * (1 - config.validation_fraction)) * config.augment
    for cost in costs(config, backbone, len({image.label for image in images}), len(images) + views):
        display.print(str(cost))


def _compare_noise(config: RunConfig, splits: Mapping[str, Sequence[str]], display: Display) -> list[str]:
    """Say how noise and signal compare, which a simulation knows before it begins; return what is to be warned of."""
    if not (promised := guarantee(config)):
        return []
    images, width = (
        sum(mine.count("train") for mine in splits.values()),
        feature_width(config, configured_backbone(config)),
    )
    found = strength(config, promised, width, len(config.declared_classes), images)
    display.print(found.words)
    return [text for text in (found.warning, delta_warning(config, images)) if text]


def _splits(
    config: RunConfig, images_of: Mapping[str, Sequence[Image]], extraction: Extraction
) -> dict[str, list[str]]:
    """Return site → the split of each of its images, "" for one that cannot be read."""
    keys = iter(extraction.keys)
    return {
        site: [
            split_of(image, key, config.seed, config.test_fraction, config.validation_fraction) if key else ""
            for image, key in zip(mine, keys, strict=False)
        ]
        for site, mine in images_of.items()
    }


def _unseen_summary(
    config: RunConfig, unseen: Mapping[str, Sequence[Image]], classes: tuple[str, ...], folder: Path, display: Display
) -> dict[str, Any]:
    """Adapt the run's head at the sites that took no part; images of classes that it does not have are left out."""
    data, left_out, file = {}, 0, folder / "head.npz"
    moments, layer = load_moments(file), load_layer(file)
    for name, images in unseen.items():
        known = [image for image in images if image.label in classes]
        left_out += len(images) - len(known)
        site = prepare_site(known, config)
        data[name] = {split: site.data(split, classes, moments, layer) for split in ("train", "test")}
        x, y = data[name]["train"]
        data[name]["train"] = x[: site.images("train")], y[: site.images("train")]  # images, not their views
    head, _, _ = load_head(file)
    spec = head_spec(config, configured_backbone(config), len(classes), layer)
    with display.bar("Unseen sites", "sites") as progress:
        summary = adapt_unseen(config, spec, head, data, progress)
    return {**summary, "images_of_other_classes": left_out}
