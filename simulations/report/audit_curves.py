"""Figures of an audit: ROC curves of membership inference, and bounds of ε and claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedtransfer.simulations.report.audit_names import MEMBERSHIP, Bound, Value, case_of, images_of, merged
from fedtransfer.simulations.report.blocks import Figure, Table
from fedtransfer.simulations.report.chart_data import Axis, Dot, Series
from fedtransfer.simulations.report.charts import DISTINCT, distinct, dot_chart, line_chart
from fedtransfer.simulations.report.reading import Audit, real
from fedtransfer.simulations.report.sentences import caption, sentence
from fedtransfer.simulations.report.texts import percent, printable
from fedtransfer.simulations.scoring.estimate import FEWEST_FALSE_ALARMS

_CURVES = 6  # figures of ROC curves, at most, in which every attack is drawn
_ALARMS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5)  # columns of the table
_LEFT = 8e-4  # end of the axes

Points = tuple[tuple[float, float], ...]  # false alarms and members found, from left to right


@dataclass(frozen=True)
class _Line:
    """A curve, and its numbers in the table, which are used wherever there are any.

    Attributes:
        values: measure of ``MEMBERSHIP`` → what the table has.
        images: a class, "" for a run.
        case: in a figure of several.
    """

    attack: str
    points: Points
    values: Mapping[str, Value]
    images: str
    case: str = ""

    @property
    def name(self) -> str:
        """Its name in its figure."""
        return f"{self.case}: {self.attack}" if self.case else self.attack

    @property
    def least(self) -> float:
        """The lowest false alarm rate that rests on enough answers."""
        rates = (FEWEST_FALSE_ALARMS / (value.count or np.inf) for value in self.values.values())
        return max(rates, default=0.0)

    def tpr(self, alarms: float) -> float:
        """Return the share of members found at no more false alarms; NaN for too few answers."""
        if alarms < self.least:
            return np.nan
        exact = self.values.get(f"tpr@{100 * alarms:g}%")
        on_curve = max((y for x, y in self.points if x <= alarms * (1 + 1e-9)), default=np.nan)
        return exact.value if exact and exact.present else on_curve

    @property
    def rank(self) -> tuple[float, float]:
        """The order of attacks: members found at 1 % false alarms, then the area."""
        rate, area = self.tpr(0.01), self.values.get("auc")
        return (-1.0 if np.isnan(rate) else rate), area.value if area else 0.0

    @property
    def series(self) -> Series:
        """The part that logarithmic axes can show."""
        points = [(x, y) for x, y in self.points if x >= max(self.least, _LEFT) * (1 - 1e-9) and y > 0]
        return Series(self.name, [x for x, _ in points], [y for _, y in points])


def roc_figures(audit: Audit, values: Sequence[Value]) -> list[Figure]:
    """Draw a figure per case with all attacks, or if cases are many, per strategy with the best."""
    read: dict[tuple[tuple[str, str], str], dict[str, list[tuple[float, float]]]] = {}
    for row in audit.roc:
        attacks = read.setdefault(((row["strategy"], images_of(row)), row["protection"]), {})
        attacks.setdefault(row["attack"], []).append((real(row["fpr"]), real(row["tpr"])))
    in_table: dict[tuple[str, ...], dict[str, Value]] = {}
    for value in values:
        if value.measure in MEMBERSHIP:
            of_attack = value.strategy, value.images, value.protection, value.attack
            in_table.setdefault(of_attack, {})[value.measure] = value
    frozen = {}
    for key, attacks in read.items():
        frozen[key] = tuple((attack, tuple(sorted(points))) for attack, points in attacks.items())
    cases, figures = merged(frozen), dict[str, list[_Line]]()
    for (strategy, images), protections, curves in cases:
        case = strategy, images, protections[0]
        numbers = {attack: in_table.get((*case, attack), {}) for attack, _ in curves}
        lines = [_Line(attack, points, numbers[attack], images) for attack, points in curves]
        if len(cases) <= _CURVES:
            figures[case_of(strategy, protections, images)] = lines
        else:
            best = max(lines, key=lambda line: line.rank)
            best = replace(best, case=case_of("", protections, images))
            figures.setdefault(printable(strategy, 40), []).append(best)
    curved = {name: [line for line in lines if len(line.series.x) > 1] for name, lines in figures.items()}
    return [_figure(name, lines) for name, lines in curved.items() if lines]


def _figure(name: str, lines: Sequence[_Line]) -> Figure:
    ranks = {line.name: line.rank for line in lines}
    series, note = distinct([line.series for line in lines], lambda line: ranks[line.name], DISTINCT)
    best = max(lines, key=lambda line: line.rank)
    begin = {line.images: line.least for line in lines if line.least > _LEFT}
    several = len({line.images for line in lines}) > 1
    words = caption("roc", name, best, begin, several, FEWEST_FALSE_ALARMS, note)
    low = max(_LEFT, 0.8 * min(line.least for line in lines))
    bottom = max(_LEFT, min(low, 0.8 * min(min(line.y) for line in series)))
    alarms = Axis("false alarms", log=True, kind="percent", low=low, high=1.25)
    members = Axis("members found", log=True, kind="percent", low=bottom, high=1.25)
    figure = line_chart(words, series, alarms, members, diagonal="guessing")
    return replace(figure, table=_numbers(words.title, lines))


def _numbers(title: str, lines: Sequence[_Line]) -> Table:
    alarms = [at for at in _ALARMS if any(not np.isnan(line.tpr(at)) for line in lines)]
    rows = [(printable(line.name, 40), *(percent(line.tpr(at)) for at in alarms)) for line in lines]
    columns = ["", *(f"at {100 * at:g}\u00a0%" for at in alarms)]
    rows.append(("guessing", *map(percent, alarms)))
    return Table(title, columns, rows, sentence("audit", "found_at_rates"))


def bound_figure(bounds: Sequence[Bound]) -> Figure:
    """Draw each claimed ε with its lower bound."""
    dots = [Dot(bound.name, (bound.claimed, bound.bound)) for bound in bounds]
    refuted = [bound.name for bound in bounds if bound.refutes]
    columns = ["mechanism", "claimed ε", "lower bound from one run"]
    return dot_chart(caption("bounds", refuted), dots, columns, Axis("ε", low=0), file="table.csv")
