"""A simulated federation from config to run folder: sites are made, features extracted, rounds run, baselines scored."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from flwr.serverapp import ServerApp

from client.app import app as client_app
from client.site import prepare_site
from common.backbone import configured_backbone
from common.checks import examine, examine_sites
from common.compute import CORES, device
from common.config import BUNDLED, KERAS_BACKBONES, RunConfig
from common.errors import UserError
from common.extraction import Extraction, extract, open_store
from common.images import Image, Problem
from common.sources import read_source, write_manifest
from common.splits import split_of
from server.app import make_app
from server.run import check_folder, clear_folder, read_summary, write_settings, write_summary, write_whole
from simulations.baselines import Baselines, run_baselines
from simulations.datasets import NAMES, read_sites, resolve_data
from simulations.display import Display
from simulations.engine import SimulatedSite, run_in_process
from simulations.partition import partition
from simulations.plots import plot_partition

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
    clear_folder(folder)
    places = {"prepared": str(folder.absolute()), "out": str(folder.absolute() / "run")}
    config = config.model_copy(update={"sites": len(images_of), **places, **_absolute_paths(config)})
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.toml", config.to_toml())
    write_sites(folder, config, images_of)
    return len(images_of)


@dataclass(frozen=True)
class Result:
    """A finished simulation: its folder, its ``summary.json`` and what could not be read."""

    folder: Path
    summary: dict[str, Any]
    baselines: Baselines
    problems: tuple[Problem, ...]


def simulate(config: RunConfig, display: Display, *, force: bool = False, began: float | None = None) -> Result:
    """Run a whole simulated federation.

    Args:
        config: what to run.
        display: shows progress.
        force: replace the run folder if it is there.
        began: ``time.monotonic()`` when the program started, so that the total includes its imports.

    Raises:
        UserError: anything about the data, the backbone or the settings that cannot work.
    """
    began = time.monotonic() if began is None else began
    folder = Path(config.out or _default_folder(config)).absolute()
    if not config.resume:
        check_folder(folder, force=force)
    images_of, problems = sites_of(config)
    config = config.model_copy(update={"sites": len(images_of), "out": str(folder), **_absolute_paths(config)})

    extraction_began = time.monotonic()
    extraction = _extract(config, [image for images in images_of.values() for image in images], display)
    problems += extraction.problems
    if not any(key for key in extraction.keys):
        raise UserError(
            f"none of the {len(extraction.keys)} images of {config.data} can be read; the first: {problems[0].path}: {problems[0].reason}"
        )
    features_seconds = time.monotonic() - extraction_began
    warnings = _examine(config, images_of, extraction)
    for warning in warnings:
        display.warn(warning)

    if not config.resume:
        clear_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(folder, config)  # first: a run killed from here on is known as one, and can be resumed
    manifests = write_sites(folder, config, images_of)
    if config.engine == "deployment":
        from simulations.deployment_engine import deployed

        with deployed(manifests, config, display.print) as federation:
            federation.run()
    else:
        with display.rounds(config) as shown:
            run_on_engine(make_app([shown]), manifests, config)

    summary = read_summary(folder)
    classes = tuple(summary["classes"])
    prepared = {name: prepare_site(read_source(manifest).images, config) for name, manifest in manifests.items()}
    with display.bar("Baselines", "heads") as progress:
        baselines = run_baselines(config, prepared, classes, progress)
    plot_partition({name: site.images_by_class() for name, site in prepared.items()}, classes, folder / "partition.png")
    summary |= _baseline_summary(baselines)
    summary["features"] = {"extracted": extraction.extracted, "reused": extraction.reused}
    summary["images_unreadable"] = len(problems)
    summary["warnings"] = warnings
    summary["seconds"] |= {"features": round(features_seconds, 3), "total": round(time.monotonic() - began, 3)}
    write_summary(folder, summary)
    return Result(folder, read_summary(folder), baselines, tuple(problems))


def write_sites(folder: Path, config: RunConfig, images_of: Mapping[str, Sequence[Image]]) -> dict[str, Path]:
    """Write each site's manifest into a folder; return site → manifest.

    Raises:
        UserError: a run is resumed, and a site would not get the images that it had.
    """
    manifests = {name: folder / "sites" / name / "images.csv" for name in images_of}
    for name, path in manifests.items():
        if config.resume and path.exists():
            now = [replace(image, path=os.path.abspath(image.path)) for image in images_of[name]]
            if list(read_source(path).images) != now:
                raise UserError(
                    f"{config.data}: {name} would get other images than {path} says; the data have changed since the "
                    "run began. Bring them back to what they were, or start a new run"
                )
        else:
            write_manifest(path, images_of[name])
    return manifests


def run_on_engine(server_app: ServerApp, manifests: Mapping[str, Path], config: RunConfig) -> None:
    """Run the apps for these sites on the engine that the config names, in process or on Ray."""
    if config.engine == "ray":
        from simulations.ray_engine import run_on_ray

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
        "store": ("",),
        "log_json": ("", "-"),
    }
    settings = {key: (str(getattr(config, key)), known) for key, known in names.items()}
    return {
        key: str(Path(value).expanduser().resolve()) for key, (value, known) in settings.items() if value not in known
    }


def sites_of(config: RunConfig) -> tuple[dict[str, list[Image]], tuple[Problem, ...]]:
    """Read the data and give each site its images; return site → images, and what cannot be used."""
    path = resolve_data(config.data)
    if config.partition == "natural":
        sources, problems = read_sites(path)
        return {name: list(source.images) for name, source in sources.items()}, problems
    source = read_source(path)
    if len(source.classes) < 2:
        raise UserError(
            f"{path}: one class only ({source.classes[0]}); there is nothing to tell apart. Expected a folder a class. "
            "If each folder is a site with class folders inside, add --partition natural"
        )
    digits = len(str(config.sites - 1))
    return {f"site-{k:0{digits}}": images for k, images in enumerate(partition(source.images, config))}, source.problems


def _extract(config: RunConfig, images: Sequence[Image], display: Display) -> Extraction:
    """Extract the features of all sites in one pass, so that batches are full however small the sites are."""
    with display.bar("Loading the backbone") as progress:
        backbone = configured_backbone(config)
        store = open_store(backbone, config.store)
        progress(1, 1)
    display.print(f"Backbone {backbone.name} at {backbone.resolution} px on {device()}; heads on the CPU")
    for note in backbone.notes:
        display.print(note)
    with display.bar("Features", "images") as progress:
        return extract(store, backbone, images, threads=config.threads, strict=config.strict, progress=progress)


def _examine(config: RunConfig, images_of: Mapping[str, Sequence[Image]], extraction: Extraction) -> list[str]:
    """Look over all images of all sites together, and over the sites' splits."""
    images = [image for images in images_of.values() for image in images]
    splits = [
        split_of(image, key, config.seed, config.test_fraction, config.validation_fraction) if key else ""
        for image, key in zip(images, extraction.keys, strict=True)
    ]
    rest = iter(splits)
    by_site = {site: list(islice(rest, len(mine))) for site, mine in images_of.items()}
    return examine(images, extraction.keys, splits) + examine_sites(by_site)


def _baseline_summary(baselines: Baselines) -> dict[str, Any]:
    local, local_majority = baselines.local.values(), baselines.local_majority.values()
    own = [score.own_mean for score in local if score.own]
    return {
        "baselines": {
            "pooled": baselines.pooled.common,
            "local_mean": sum(score.common for score in local) / len(local),
            "local_worst": min(score.common for score in local),
            "majority": baselines.majority.common,
        },
        "baselines_on_own_test_images": {
            "pooled": baselines.pooled.own_mean,
            "pooled_worst": baselines.pooled.own_worst,
            "local_mean": sum(own) / len(own) if own else float("nan"),
            "local_worst": min(own, default=float("nan")),
            "majority": baselines.majority.own_mean,
            "local_majority": sum(score.own_mean for score in local_majority if score.own) / max(1, len(own)),
        },
        "baselines_local_sites": len(local),
    }
