"""The work of a process of ``fedtransfer benchmark``: features, baselines and runs, one after another."""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console

from fedtransfer.client.data import SiteData, prepare_site
from fedtransfer.client.training.statistics import site_sums
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.compute import keras
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.data.checks import examine
from fedtransfer.common.data.sources import natural_order, read_source
from fedtransfer.common.features.extraction import Progress, extract_all
from fedtransfer.common.features.feature_map import Moments, moments_of
from fedtransfer.common.head.head import load_head, load_layer, load_moments
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.text import some
from fedtransfer.server.callbacks.tables import read_history
from fedtransfer.server.run_folder.folder import read_summary, settings_of
from fedtransfer.simulations.benchmark.measures import Row, fairness, run_measures
from fedtransfer.simulations.benchmark.memory import forget_peak, peak_mb
from fedtransfer.simulations.benchmark.plans import Cell, differing
from fedtransfer.simulations.data.features import prepare_sites
from fedtransfer.simulations.data.loading import load
from fedtransfer.simulations.data.sites import sites_of, warn_of_site_folders
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import simulate
from fedtransfer.simulations.scoring.baselines import Score, measure, pooled_one_shot, run_baselines

_SHOWN = 10  # files that are left out are named


@dataclass(frozen=True)
class Features:
    """What a setting's images are seen through, and what it took.

    Attributes:
        lines: what a person should know about them.
        facts: backbone, resolution, preprocessing and fingerprint.
        peak_mb: of the process until then.
    """

    lines: Sequence[str]
    facts: Mapping[str, str]
    peak_mb: float


def extract_features(config: RunConfig) -> Features:
    """Bring the features of a setting's images into the store; how sites divide them makes no difference."""
    began = time.monotonic()
    backbone = configured_backbone(config)
    undivided = {} if config.partition == "natural" else {"partition": "iid", "sites": 1, "min_images": 1}
    images_of, problems = sites_of(config.model_copy(update=undivided))
    images = [image for images in images_of.values() for image in images]
    extraction, _ = extract_all(backbone, images, config, _lines_of("features", "images"))
    facts = {
        "backbone": backbone.name,
        "resolution": str(backbone.resolution),
        "preprocessing": config.preprocessing,
        "fingerprint": backbone.fingerprint,
    }
    classes = natural_order(image.label for image in images)
    usable = sum(key is not None for key in extraction.keys)
    took = (
        f"{extraction.extracted:,} extracted in {time.monotonic() - began:.1f} s" if extraction.extracted else "stored"
    )
    lines = [f"{usable:,} images of {len(classes)} classes ({some(classes, 6)}); {took}"]
    problems += extraction.problems
    lines += [f"left out {problem.path}: {problem.reason}" for problem in problems[:_SHOWN]]
    lines += [f"left out {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else []
    lines += examine(images, extraction.keys, [image.split for image in images])
    return Features([*lines, *warn_of_site_folders(config)], facts, peak_mb())


def _lines_of(subject: str, unit: str) -> Progress:
    """Return a progress that prints a line each ten seconds, for a process whose terminal is another's."""
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() > last + 10:
            last = time.monotonic()
            print(f"{subject}: {done:,} of {total:,} {unit}", file=sys.stderr, flush=True)

    return progress


def measure_baselines(cell: Cell) -> dict[str, Score]:
    """Score the baselines of a setting and seed, or read ``baselines.json`` if it exists; name → score.

    The scores of ``local only`` are means over the heads of the sites that trained alone, each on
    the common test set, and ``own`` is what each has on its own test images.
    """
    path = Path(cell.config.out) / "baselines.json"
    if path.exists():
        record = json.loads(path.read_text("utf-8"))
        if not differing(make_config(record["settings"], str(path)), cell.config):
            return {name: Score(score["measures"], score["own"]) for name, score in record["scores"].items()}
    data = load(cell.config)
    prepared, config = prepare_sites(data), data.config
    sites = {name: prepared.sites[name] for name in data.sites}
    classes = natural_order(image.label for images in data.sites.values() for image in images)
    moments = _moments(sites) if config.standardise == "federated" else None
    baselines = run_baselines(config, sites, classes, moments, lambda done, total: None)
    alone = list(baselines.local.values())
    scores = {
        "local only": Score(
            {key: float(np.mean([score.measures[key] for score in alone])) for key in alone[0].measures},
            {name: score.site_accuracy[name] for name, score in baselines.local.items() if name in score.site_accuracy},
        ),
        "pooled softmax": baselines.pooled,
        **{f"pooled {name}": score for name, score in pooled_one_shot(config, sites, classes, moments).items()},
        "majority class": baselines.majority,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"settings": cell.config.to_flat(), "scores": {name: score.record for name, score in scores.items()}}
    write_whole(path, json.dumps(record, indent=2) + "\n")
    return scores


def run_cell(cell: Cell, baselines: Mapping[str, Score], facts: Mapping[str, str]) -> Row:
    """Make a run, or the rest of one, or read the one there is; return its row.

    Args:
        cell: which.
        baselines: of its setting and seed; none in tuning.
        facts: of its features.

    Raises:
        UserError: the run cannot be made.
    """
    folder, began = Path(cell.config.out), time.monotonic()
    begun = (folder / "config.toml").is_file() and not differing(settings_of(folder), cell.config)
    finished = begun and (folder / "measured.json").is_file()
    if not finished:
        forget_peak()
        new = not (begun and (folder / "summary.json").is_file())
        if new:
            config = cell.config.model_copy(update={"resume": begun})
            sites = simulate(config, Display(Console(file=StringIO())), force=True).sites
        else:  # stopped before its scores were taken
            sites = _read_sites(folder)
        score = _measured(folder, sites, "validation" if cell.tried else "test")
        peak = round(peak_mb()) if new else None  # else the process that made it is gone
        write_whole(folder / "measured.json", json.dumps({**score.record, "peak_mb": peak}, indent=2) + "\n")
        # What a run leaves in the process is of no use to the next: sites with their features, Keras' graphs.
        keras.backend.clear_session(free_memory=False)
    record = json.loads((folder / "measured.json").read_text("utf-8"))
    summary, score = read_summary(folder), Score(record["measures"], record["own"])
    peak_of_run = math.nan if record["peak_mb"] is None else record["peak_mb"]
    measures = dict(score.measures) | {"peak_mb": peak_of_run, **fairness(score, baselines)}
    pooled = baselines["pooled softmax"].common if "pooled softmax" in baselines else math.nan
    measures |= run_measures(
        read_history(folder), summary, pooled, settings_of(folder)
    )  # with the number of sites that there are
    privacy = summary.get("privacy", {})
    claimed = {name: "" if (value := privacy.get(name)) is None else f"{value:.6g}" for name in ("epsilon", "delta")}
    seconds = 0.0 if finished else time.monotonic() - began
    return Row(cell.setting, cell.method, cell.seed, measures, {**facts, **claimed}, round(seconds, 2))


def _measured(folder: Path, sites: Mapping[str, SiteData], split: str) -> Score:
    """Score a finished run's head on all images of a split, at the sites that took part."""
    config, file = settings_of(folder), folder / "head.npz"
    head, classes, _ = load_head(file)
    return measure(config, sites, classes, load_moments(file), head, load_layer(file), split)


def _read_sites(folder: Path) -> dict[str, SiteData]:
    """Prepare the sites of a finished run again, from its manifests."""
    config, manifests = settings_of(folder), sorted(folder.glob("sites/*/images.csv"))
    return {path.parent.name: prepare_site(read_source(path).images, config) for path in manifests}


def _moments(sites: Mapping[str, SiteData]) -> Moments:
    x = np.concatenate([site.raw("train") for site in sites.values()])
    [(total, squares)] = site_sums("moments", x, np.zeros(len(x), np.int64), 1)
    return moments_of(len(x), total, squares)
