"""``fedtransfer benchmark --dry-run``: what a plan would make and what it needs, without making anything."""

from collections.abc import Iterable
from pathlib import Path

from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig
from fedtransfer.simulations.benchmark.finished import finished
from fedtransfer.simulations.benchmark.plans import Cell, Plan
from fedtransfer.simulations.data.datasets import NAMES, archive_of


def described(plan: Plan, out: Path) -> dict[str, str]:
    """Return in words, by what they are about: what a plan has, what of it is there already, and what it needs.

    Args:
        plan: what would be run.
        out: the benchmark's folder.
    """
    runs = finished(plan)
    done = {str(cell) for cell in runs.done}
    configs = [cell.config for cell in (*plan.baselines, *plan.cells)]
    facts = {
        "settings": _listed(cell.setting for cell in plan.baselines),
        "left out": "\n".join(plan.remarks),
        "methods": _listed(cell.method for cell in plan.cells) or "none, baselines alone",
        "seeds": _listed(str(cell.seed) for cell in plan.baselines),
        "tuning": _to_make(plan.tuning, done),
        "runs": _to_make(plan.cells, done),
        "baselines": f"{_to_make(plan.baselines, done)}; of each setting and seed",
        "data": "\n".join(dict.fromkeys(map(_data, configs))),
        "backbones": "\n".join(dict.fromkeys(map(_backbone, configs))),
        "folder": str(out),
        "refused": f"{runs}; --force makes them again" if runs.changed else "",
    }
    return {subject: text for subject, text in facts.items() if text}


def _listed(names: Iterable[str]) -> str:
    each = dict.fromkeys(names)
    return f"{len(each)}: {', '.join(each)}" if each else ""


def _to_make(cells: Iterable[Cell], done: Iterable[str]) -> str:
    names = {str(cell) for cell in cells}
    there = len(names & set(done))
    return f"{len(names) - there:,} to make, {there:,} there" if names else ""


def _data(config: RunConfig) -> str:
    if config.data not in NAMES:
        return f"{config.data}: there"  # settings whose data are not are left out of the plan
    if (archive := archive_of(config.data)) is None:
        return f"{config.data}: comes with fedtransfer"
    if archive.is_file():
        return f"{config.data}: there, {archive}"
    return f"{config.data}: to be downloaded by Keras, or taken from its cache; or --data {config.data}=FILE.npz"


def _backbone(config: RunConfig) -> str:
    name = config.backbone + (f" with {config.weights}" if config.weights else "")
    if config.backbone == BUNDLED:
        return f"{name}: comes with fedtransfer"
    if config.backbone in KERAS_BACKBONES and not config.weights:
        from fedtransfer.common.backbone.weights import imagenet_file

        file = imagenet_file(config.backbone)
        return f"{name}: there, {file}" if file.is_file() else f"{name}: ImageNet weights to be downloaded by Keras"
    path = Path(config.weights or config.backbone).expanduser()
    there = path.is_file() or path.with_name(f"{path.name}.index").is_file()  # a file, or a checkpoint by its prefix
    return f"{name}: {'there' if there else 'missing'}"
