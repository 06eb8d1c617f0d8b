"""The values of an audit's table, and the names of its cases, attacks and measures."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from fedtransfer.simulations.report.reading import Audit, Row, real
from fedtransfer.simulations.report.texts import decimals, names, percent, printable
from fedtransfer.simulations.report.texts import epsilon as epsilon_text

MEMBERSHIP = {"auc", "tpr@1%", "tpr@0.1%"}
_TEXTS = ("strategy", "protection", "epsilon", "attack", "measure", "note")
_SHARES = {"accuracy", "exact_share", "tpr@1%", "tpr@0.1%", "right_guesses"}
_Key = TypeVar("_Key", bound=Hashable)
_Result = TypeVar("_Result", bound=Hashable)


@dataclass(frozen=True)
class Value:
    """A row of ``table.csv``: a number, its 95 % interval and that of a guess; NaN if missing.

    Attributes:
        epsilon: what is claimed, as the table has it, "" for nothing.
        images: a class, "" for a run.
    """

    strategy: str
    protection: str
    epsilon: str
    attack: str
    measure: str
    note: str
    images: str
    value: float
    low: float
    high: float
    by_chance: float
    count: float

    @classmethod
    def from_row(cls, row: Row) -> "Value":
        """Read a row."""
        strategy, protection, epsilon, attack, measure, note = (row.get(name, "") for name in _TEXTS)
        numbers = (real(row.get(name)) for name in ("value", "low", "high", "by_chance", "count"))
        return cls(strategy, protection, epsilon, attack, measure, note, images_of(row), *numbers)

    @property
    def name(self) -> str:
        """The name of its measure."""
        return names("measures_of_audits").get(self.measure, printable(self.measure, 40))

    @property
    def present(self) -> bool:
        """Whether there is a number."""
        return not math.isnan(self.value)

    @property
    def protected(self) -> str:
        """The name of its protection, with ε."""
        return with_epsilon(protection_name(self.protection), self.epsilon)

    @property
    def text(self) -> str:
        """The value, with its interval if it has one."""
        interval = "" if math.isnan(self.low) else f" ({self._text(self.low)} to {self._text(self.high)})"
        return self._text(self.value) + interval

    @property
    def guess(self) -> str:
        """The value of a guess that needs nothing from the sites; "" if unknown."""
        return "" if math.isnan(self.by_chance) else self._text(self.by_chance)

    @property
    def short(self) -> str:
        """The value alone."""
        return f"{self.value:.1f} dB" if self.measure.startswith("psnr") else self._text(self.value)

    def _text(self, number: float) -> str:
        show = percent if self.measure in _SHARES else epsilon_text if self.measure == "claimed" else decimals
        return show(number)


def values_of(audit: Audit) -> list[Value]:
    """Return the values of its table."""
    return [Value.from_row(row) for row in audit.table]


def measured(values: Iterable[Value], measure: str) -> list[Value]:
    """Return the values of a measure, without those whose number is missing."""
    return [value for value in values if value.measure == measure and value.present]


def highest(values: Iterable[Value], measure: str) -> Value | None:
    """Return the highest value of a measure."""
    return max(measured(values, measure), key=lambda value: value.value, default=None)


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


def bounds_of(values: Iterable[Value]) -> list[Bound]:
    """Return each claimed ε once with its lower bound; cases of the same mechanism share one."""
    cases: dict[tuple[str, ...], dict[str, float]] = {}
    for value in values:
        if value.measure in ("epsilon_lower_bound", "claimed") and value.present:
            case = value.strategy, value.epsilon, value.images, value.protection
            cases.setdefault(case, {})[value.measure] = value.value
    groups: dict[tuple[str, str, float, float], list[str]] = {}
    for (strategy, epsilon, _, protection), pair in cases.items():
        if len(pair) == 2 and pair["claimed"] > 0:
            key = strategy, epsilon, pair["claimed"], pair["epsilon_lower_bound"]
            groups.setdefault(key, []).append(protection)
    return [
        Bound(case_of(strategy, [*dict.fromkeys(protections)], "", epsilon), len(protections), claimed, bound)
        for (strategy, epsilon, claimed, bound), protections in groups.items()
    ]


def merged(results: Mapping[tuple[_Key, str], _Result]) -> list[tuple[_Key, list[str], _Result]]:
    """Merge protections with the same findings: masks leave the head, so it was measured once."""
    groups: dict[tuple[_Key, _Result], list[str]] = {}
    for (key, protection), result in results.items():
        groups.setdefault((key, result), []).append(protection)
    return [(key, protections, result) for (key, result), protections in groups.items()]


def protection_name(protection: str) -> str:
    """Name a protection."""
    return names("protections").get(protection, protection)


def with_epsilon(name: str, epsilon: str) -> str:
    """Add ε to a name, if there is any."""
    return f"{name}, ε\u00a0=\u00a0{epsilon_text(real(epsilon))}" if epsilon else name


def images_of(row: Row) -> str:
    """Return a row's images a class; "" for a run."""
    return "" if (images := row.get("images_per_class") or "") == "0" else images


def case_of(strategy: str, protections: Sequence[str] = (), images: str = "", epsilon: str = "") -> str:
    """Return a short name of what was attacked."""
    claim = f"ε = {epsilon_text(real(epsilon))}" if epsilon else ""
    parts = [printable(strategy, 40), *protections, claim, f"{images} a class" if images else ""]
    return ", ".join(filter(None, parts))
