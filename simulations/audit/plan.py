"""A plan of audits: strategies x protections x images a class, each a federation that is attacked.

Presets are plans that come with the program (``fedtransfer/assets/audits/NAME.toml``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import Field

from fedtransfer.common.config.config import RunConfig, Value, make_config
from fedtransfer.common.config.toml_settings import Table, read_settings
from fedtransfer.common.data.sources import natural_order, read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.support.text import nearest
from fedtransfer.simulations.audit.findings import Finding
from fedtransfer.simulations.data.datasets import resolve_data
from fedtransfer.simulations.scoring.estimate import Estimate

PROTECTIONS = ("none", "masks", "dp", "both")
Settings = dict[str, Value]


class PlanFile(Table):
    """What a plan's file holds."""

    seed: int = 0
    images_per_class: list[int] = Field(min_length=1)
    shadows: int = Field(ge=4)
    common: Settings
    strategies: dict[str, Settings] = Field(min_length=1)
    dp: Settings
    dp_of: dict[str, Settings] = Field(default_factory=dict)


@dataclass(frozen=True)
class AuditCase:
    """A federation that is attacked."""

    strategy: str  # its name in the plan
    protection: str  # one of ``PROTECTIONS``; "" for a run's own settings
    each: int  # members of every class; 0 for a run
    config: RunConfig

    @property
    def claim(self) -> float:
        """ε that its settings claim; NaN for none."""
        promised = guarantee(self.config)
        return promised.epsilon(promised.affordable) if promised else math.nan

    def finding(
        self, attack: str, measure: str, estimate: Estimate, note: str = "", by_chance: float = math.nan
    ) -> Finding:
        """Return a finding on the federation."""
        names = self.strategy, self.protection, self.claim, self.each, attack, measure
        return Finding(*names, estimate.mean, estimate.low, estimate.high, by_chance, estimate.n, note)

    def __str__(self) -> str:
        return f"{self.strategy}, {self.protection or 'as it ran'}" + (
            f", {self.each} a class" if self.each else ""
        )


def preset_file(name: str) -> Path:
    """Return the file of a preset; raise a UserError if there is none of this name."""
    folder = files("fedtransfer.assets") / "audits"
    names = sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml"))
    if name not in names:
        raise UserError(f"--preset: got {name!r}; {nearest(name, names)}")
    return Path(str(folder / f"{name}.toml"))


def read_plan(path: Path, changed: Mapping[str, Value]) -> tuple[list[AuditCase], int]:
    """Read a plan: federations, together where protection alone differs, and shadows for each.

    The classes of its data are declared where masks and differential privacy want that. ``changed``
    replaces settings of every federation, such as where data are.

    Raises:
        UserError: the file is no plan, its data are missing, or a federation's settings disagree.
    """
    plan = read_settings(path, PlanFile)
    data = str({"data": RunConfig().data, **plan.common, **changed}["data"])
    classes = natural_order(image.label for image in read_source(resolve_data(data)).images)
    declared: Settings = {"classes": "declared", "class-names": ",".join(classes)}
    cases = []
    for each in plan.images_per_class:
        for name, options in plan.strategies.items():
            for protection in PROTECTIONS:
                settings = {**plan.common, **options, "seed": plan.seed, **changed}
                if protection != "none":
                    settings |= declared
                if protection in ("masks", "both"):
                    settings["masks"] = True
                if protection in ("dp", "both"):
                    settings |= {**plan.dp, **plan.dp_of.get(name, {})}
                cases.append(
                    AuditCase(name, protection, each, make_config(settings, f"{path}: {name}, {protection}"))
                )
    return cases, plan.shadows
