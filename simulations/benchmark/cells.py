"""The work of a process of ``fedtransfer benchmark``: features, baselines and runs, in turn."""

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

from fedtransfer.client.data import prepare_site
from fedtransfer.client.training.statistics import site_sums
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.data.checks import examine
from fedtransfer.common.data.sources import natural_order, read_source
from fedtransfer.common.features.extraction import extract_all
from fedtransfer.common.features.feature_map import moments_of
from fedtransfer.common.head.head import load_head, load_layer, load_moments
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.terminal import progress_bar
from fedtransfer.common.support.text import some
from fedtransfer.server.callbacks.tables import read_history
from fedtransfer.server.run_folder.folder import read_summary, settings_of
from fedtransfer.simulations.benchmark.folder import differing
from fedtransfer.simulations.benchmark.measures import Row, fairness, run_measures
from fedtransfer.simulations.benchmark.plans import Cell
from fedtransfer.simulations.benchmark.pool import forget_peak, peak_mb
from fedtransfer.simulations.data.features import prepare_sites
from fedtransfer.simulations.data.sites import load, sites_of, warn_of_site_folders
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import simulate
from fedtransfer.simulations.scoring.baselines import Score, measure, pooled_one_shot, run_baselines

_SHOWN = 10  # files that are left out are named


@dataclass(frozen=True)
class Extracted:
    """What a setting's images are seen through, and what it took."""

    lines: Sequence[str]  # what a person should know about the images
    facts: Mapping[str, str]  # backbone, resolution, preprocessing and fingerprint
    peak_mb: float  # of the process until then


def extract_features(config: RunConfig) -> Extracted:
    """Bring the features of a setting's images into the store, however sites divide them."""
    began = time.monotonic()
    undivided = {} if config.partition == "natural" else {"partition": "iid", "sites": 1, "min_images": 1}
    config, images_of, problems = sites_of(config.model_copy(update=undivided))
    backbone = configured_backbone(config)
    images = [image for images in images_of.values() for image in images]
    # The terminal is another process': lines, no bar.
    with progress_bar(Console(stderr=True, force_terminal=False), "features", "images") as progress:
        extraction, _ = extract_all(backbone, images, config, progress)
    facts = {
        "backbone": backbone.name, "resolution": str(backbone.resolution or "–"),
        "preprocessing": config.preprocessing, "fingerprint": backbone.fingerprint,
    }  # fmt: skip
    classes = natural_order(image.label for image in images)
    usable, new = sum(key is not None for key in extraction.keys), extraction.extracted
    took = f"{new:,} extracted in {time.monotonic() - began:.1f} s" if new else "stored"
    problems += extraction.problems
    lines = [f"{usable:,} images of {len(classes)} classes ({some(classes, 6)}); {took}"]
    lines += [f"left out {problem.path}: {problem.reason}" for problem in problems[:_SHOWN]]
    lines += [f"left out {len(problems) - _SHOWN:,} more"] * (len(problems) > _SHOWN)
    lines += examine(images, extraction.keys, [image.split for image in images])
    return Extracted([*lines, *warn_of_site_folders(config)], facts, peak_mb())


def measure_baselines(cell: Cell) -> dict[str, Score]:
    """Score the baselines of a setting and seed, or read ``baselines.json``; name → score.

    The scores of ``local only`` are means over the heads of the sites that trained alone, each on
    the common test set, and ``own`` is what each has on its own test images.
    """
    path = Path(cell.config.out) / "baselines.json"
    if path.exists():
        record = json.loads(path.read_text("utf-8"))
        if not differing(make_config(record["settings"], str(path)), cell.config):
            return {name: Score(score["measures"], score["own"]) for name, score in record["scores"].items()}
    data = load(cell.config)
    prepared, config, moments = prepare_sites(data), data.config, None
    sites = {name: prepared.sites[name] for name in data.sites}
    classes = natural_order(image.label for images in data.sites.values() for image in images)
    if config.standardise == "federated":
        x = np.concatenate([site.raw("train") for site in sites.values()])
        [(total, squares)] = site_sums("moments", x, np.zeros(len(x), np.int64), 1)
        moments = moments_of(len(x), total, squares)
    baselines = run_baselines(config, sites, classes, moments, lambda done, total: None)
    alone = baselines.local
    names = baselines.pooled.measures
    means = {name: float(np.mean([score.measures[name] for score in alone.values()])) for name in names}
    accuracy = {name: score.site_accuracy.get(name) for name, score in alone.items()}
    at_sites = {name: value for name, value in accuracy.items() if value is not None}
    scores = {"local only": Score(means, at_sites), "pooled softmax": baselines.pooled}
    one_shot = pooled_one_shot(config, sites, classes, moments)
    scores |= {f"pooled {name}": score for name, score in one_shot.items()}
    scores["majority class"] = baselines.majority
    path.parent.mkdir(parents=True, exist_ok=True)
    records = {name: score.record for name, score in scores.items()}
    record = {"settings": cell.config.to_flat(), "scores": records}
    write_whole(path, json.dumps(record, indent=2) + "\n")
    return scores


def run_cell(cell: Cell, baselines: Mapping[str, Score], facts: Mapping[str, str]) -> Row:
    """Make a run, or the rest of one, or read the one there is; return its row.

    Baselines are those of its setting and seed, none in tuning; facts are those of its features.

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
        config, file = settings_of(folder), folder / "head.npz"
        if not new:  # stopped before its scores were taken
            manifests = sorted(folder.glob("sites/*/images.csv"))
            sites = {path.parent.name: prepare_site(read_source(path).images, config) for path in manifests}
        head, classes, _ = load_head(file)
        split = "validation" if cell.tried else "test"
        score = measure(config, sites, classes, load_moments(file), head, load_layer(file), split)
        peak = round(peak_mb()) if new else None  # else the process that made it is gone
        write_whole(folder / "measured.json", json.dumps({**score.record, "peak_mb": peak}, indent=2) + "\n")
        # What a run leaves is of no use to the next: sites with features, Keras' graphs.
        if "keras" in sys.modules:
            sys.modules["keras"].backend.clear_session(free_memory=False)
    record = json.loads((folder / "measured.json").read_text("utf-8"))
    summary, score = read_summary(folder), Score(record["measures"], record["own"])
    config = settings_of(folder)  # with the number of sites that there are
    pooled = baselines["pooled softmax"].common if "pooled softmax" in baselines else math.nan
    measures = {
        **score.measures,
        "peak_mb": math.nan if record["peak_mb"] is None else record["peak_mb"],
        **fairness(score, baselines),
        **run_measures(read_history(folder), summary, pooled, config),
    }
    privacy = {name: summary.get("privacy", {}).get(name) for name in ("epsilon", "delta")}
    claimed = {name: "" if value is None else f"{value:.6g}" for name, value in privacy.items()}
    method = {"strategy": _strategy(config), "attack": _attack(config)}
    seconds = 0.0 if finished else time.monotonic() - began
    return Row(
        cell.setting, cell.method, cell.seed, measures, {**facts, **method, **claimed}, round(seconds, 2)
    )


def _strategy(config: RunConfig) -> str:
    """Return the strategy, after the one-shot head that it begins at."""
    return config.strategy if config.init == "zeros" else f"{config.init}, then {config.strategy}"


def _attack(config: RunConfig) -> str:
    """Return what hostile sites do, and at what scale; "" if there are none."""
    return f"{config.attack} x{config.attack_scale:g}" if config.hostile_sites else ""
