"""Names of an audit's cases, attacks and measures, and the values of its table as texts."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from fedtransfer.simulations.report.blocks import decimals, percent, printable
from fedtransfer.simulations.report.blocks import epsilon as epsilon_text
from fedtransfer.simulations.report.reading import Audit, Row, real

_PROTECTION = {
    "": "as it ran",
    "none": "no protection",
    "masks": "masks",
    "dp": "differential privacy",
    "both": "differential privacy and masks",
}
MEMBERSHIP = {"auc", "tpr@1%", "tpr@0.1%"}
_SHARES = {"accuracy", "exact_share", "tpr@1%", "tpr@0.1%", "right_guesses"}
MEASURES = {
    "accuracy": "accuracy of the head",
    "inside_span": "share of features in the row space",
    "inside_span_of_others": "the same of another site",
    "exact_share": "counts found exactly",
    "l1": "L1 distance of counts",
    "cosine@1": "cosine, classes of 1 image",
    "cosine@2-5": "cosine, classes of 2 to 5",
    "cosine@6+": "cosine, classes of 6 or more",
    "max_cosine": "highest cosine",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "psnr_of_class_mean": "PSNR of class means, dB",
    "ssim_of_class_mean": "SSIM of class means",
    "auc": "area under the ROC curve",
    "tpr@1%": "found at 1 % false alarms",
    "tpr@0.1%": "found at 0.1 % false alarms",
    "right_guesses": "right guesses",
    "epsilon_lower_bound": "lower bound of ε",
    "most_provable": "most that can be proven",
    "claimed": "claimed ε",
}
CHANCE = {
    "exact_share": "by one number for all",
    "l1": "by equal counts",
    "cosine@1": "of the class's mean",
    "cosine@2-5": "of the class's mean",
    "cosine@6+": "of the class's mean",
    "max_cosine": "with another site's",
}

_Key = TypeVar("_Key", bound=Hashable)
_Result = TypeVar("_Result", bound=Hashable)


class Bound(NamedTuple):
    """A claimed ε and its lower bound from one run, and how many cases they stand for."""

    name: str
    cases: int
    claimed: float
    bound: float

    @property
    def share(self) -> float:
        """The bound as a share of the claim."""
        return self.bound / self.claimed

    @property
    def refutes(self) -> bool:
        """Whether the claim is refuted."""
        return self.bound > self.claimed


def merged(results: Mapping[tuple[_Key, str], _Result]) -> list[tuple[_Key, tuple[str, ...], _Result]]:
    """Merge protections with identical findings: masks do not change the head, so it was measured once."""
    groups: dict[tuple[_Key, _Result], list[str]] = {}
    for (key, protection), result in results.items():
        groups.setdefault((key, result), []).append(protection)
    return [(key, tuple(protections), result) for (key, result), protections in groups.items()]


def protected(protection: str, epsilon: str = "") -> str:
    """Name a protection with its ε."""
    return with_epsilon(_PROTECTION.get(protection, protection), epsilon)


def with_epsilon(name: str, epsilon: str) -> str:
    """Add ε to a name, if there is any."""
    return f"{name}, ε\u00a0=\u00a0{epsilon_text(real(epsilon))}" if epsilon else name


def images_of(row: Row) -> str:
    """Return a row's images a class; "" for a run."""
    images = row.get("images_per_class") or ""
    return "" if images == "0" else images


def case_of(strategy: str, protections: Sequence[str] = (), images: str = "", epsilon: str = "") -> str:
    """Return a short name of what was attacked."""
    parts = [printable(strategy, 40), *filter(None, protections)]
    parts += [f"ε = {epsilon_text(real(epsilon))}"] if epsilon else []
    return ", ".join([*parts, *([f"{images} a class"] if images else [])])


@dataclass(frozen=True)
class Value:
    """A number of an audit, with its 95 % interval and the value of a guess; NaN for what is missing."""

    attack: str
    measure: str
    value: float
    low: float
    high: float
    by_chance: float
    count: float

    @classmethod
    def from_row(cls, row: Row) -> "Value":
        """Read a row of ``table.csv``."""
        numbers = (real(row.get(name)) for name in ("value", "low", "high", "by_chance", "count"))
        return cls(row["attack"], row["measure"], *numbers)

    @property
    def text(self) -> str:
        """The value, with its interval if it has one."""
        interval = "" if math.isnan(self.low) else f" ({self._text(self.low)} to {self._text(self.high)})"
        return self._text(self.value) + interval

    @property
    def guess(self) -> str:
        """The value of a guess that needs nothing from the sites; "" if unknown."""
        return "" if math.isnan(self.by_chance) else self._text(self.by_chance)

    def _text(self, number: float) -> str:
        show = percent if self.measure in _SHARES else epsilon_text if self.measure == "claimed" else decimals
        return show(number)


def highest(rows: Sequence[Row], measure: str) -> Value | None:
    """Return the highest value of a measure."""
    candidates = [Value.from_row(row) for row in rows if row["measure"] == measure and row["value"]]
    return max(candidates, key=lambda candidate: candidate.value, default=None)


def bounds_of(audit: Audit) -> list[Bound]:
    """Return each claimed ε once with its lower bound; cases of the same mechanism share one."""
    cases: dict[tuple[str, ...], dict[str, float]] = {}
    for row in audit.table:
        if row["measure"] in ("epsilon_lower_bound", "claimed") and row["value"]:
            case = row["strategy"], row["epsilon"], images_of(row), row["protection"]
            cases.setdefault(case, {})[row["measure"]] = real(row["value"])
    groups: dict[tuple[str, str, float, float], list[str]] = {}
    for (strategy, epsilon, _, protection), pair in cases.items():
        if len(pair) == 2 and pair["claimed"] > 0:
            key = strategy, epsilon, pair["claimed"], pair["epsilon_lower_bound"]
            groups.setdefault(key, []).append(protection)
    return [
        Bound(case_of(strategy, tuple(dict.fromkeys(protections)), "", epsilon), len(protections), claimed, bound)
        for (strategy, epsilon, claimed, bound), protections in groups.items()
    ]
