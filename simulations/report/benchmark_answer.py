"""The answer about a benchmark: the facts behind its sentences on accuracy, privacy and cost, and on each setting."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.simulations.report.benchmark_best import (
    alone,
    best,
    by_epsilon,
    falling,
    federated,
    few,
    on_own_images,
    pooled,
)
from fedtransfer.simulations.report.benchmark_measures import by_setting, bytes_of, seed_counts, text_of
from fedtransfer.simulations.report.benchmark_runs import configs, curves, failures, promised
from fedtransfer.simulations.report.blocks import Fact, epsilon, percent, power, shown, span
from fedtransfer.simulations.report.failures import Failure
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.sentences import fact, sentence
from fedtransfer.simulations.scoring.estimate import rising

Named = tuple[str, str]  # a method, and its accuracy with the interval
Pair = tuple[float, float]  # accuracy on own test images: of the best method, and of sites alone


@dataclass(frozen=True)
class Lead:
    """What was compared on what; ``seeds``: the different numbers of seeds of the rows."""

    methods: int
    settings: int
    data: Sequence[str]
    seeds: Sequence[int]
    networks: Sequence[str]
    configs: Sequence[RunConfig]


@dataclass(frozen=True)
class Alone:
    """Shares of sites that do better alone than with the best method: the least and the most over settings."""

    least: float
    at_least: str
    most: float
    at_most: str
    own: Mapping[str, Pair]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the best methods; ``bests``: ε, "" for none → of each setting."""

    bests: Mapping[str, Sequence[float]]
    pooled: Sequence[float]
    failures: Sequence[Failure]
    setting: str
    alone: Alone | None
    federated: bool
    seeds: Sequence[int]


@dataclass(frozen=True)
class Privacy:
    """Methods with a promise, and those that never or not in all settings have one."""

    private: int
    methods: int
    range: str
    deltas: Sequence[str]
    protected: Mapping[str, Sequence[str]]
    never: Sequence[str]
    sometimes: Sequence[str]


@dataclass(frozen=True)
class Cost:
    """Bytes to and from a site of the best methods by ε, and of the methods with least and most."""

    bests: Mapping[str, Sequence[float]]
    levels: int
    least: tuple[str, float] | None
    most: tuple[str, float] | None
    seconds: int | None


@dataclass(frozen=True)
class Setting:
    """A setting: its best methods, and who does better alone."""

    top: Named | None
    methods: int
    pooled: Named | None
    at_epsilon: Sequence[tuple[str, Named]]
    alone: float | None
    alone_least: str
    alone_most: str
    own: Pair | None
    rising: Sequence[str]


def lead(benchmark: Benchmark) -> str:
    """Say what was compared on what."""
    about = benchmark.about
    data = [shown(str(name).rsplit("/", 1)[-1], 40) for name in about.get("data", [])][:6]
    networks = [f"{shown(each['name'], 60)} at {each.get('resolution', '?')} px" for each in about.get("backbones", [])]
    methods = {row["method"] for row in federated(benchmark.table)}
    facts = Lead(len(methods), len(by_setting(benchmark)), data, seed_counts(benchmark), networks, configs(benchmark))
    return sentence("lead", "of_benchmark", facts)


def answer(benchmark: Benchmark) -> tuple[Fact, ...]:
    """Answer: how good, how private, at what cost."""
    return (
        fact("accuracy", "of_benchmark", _accuracy(benchmark)),
        fact("privacy", "of_benchmark", _privacy(benchmark)),
        fact("cost", "of_benchmark", _cost(benchmark)),
    )


def of_setting(benchmark: Benchmark, rows: Sequence[Row], curves_: Mapping[str, Sequence[float]]) -> str:
    """Say which method of a setting is best, also at each ε, what all images in one place give, and who does better alone.

    Args:
        benchmark: the whole.
        rows: of the setting.
        curves_: its ``curves``.
    """

    def named(row: Row) -> Named:
        return row["method"], text_of(benchmark, row, "accuracy")

    methods, together = federated(rows), pooled(rows)
    top = best(methods) if methods else None
    levels = few(list(by_epsilon(methods).items())) if top and not top.get("epsilon") else []
    shares = [share for row in methods if not math.isnan(share := alone(benchmark, row))]
    facts = Setting(
        top=named(top) if top else None,
        methods=len(methods),
        pooled=named(best(together)) if together else None,
        at_epsilon=[(level, named(best(at_level))) for level, at_level in levels],
        alone=_known(alone(benchmark, top)) if top else None,
        alone_least=percent(min(shares), 0) if shares else "",
        alone_most=percent(max(shares), 0) if shares else "",
        own=_known_pair(on_own_images(benchmark, rows)),
        rising=rising_methods(curves_),
    )
    return sentence("accuracy", "of_setting", facts)


def rising_methods(curves_: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the methods whose accuracy still rose at their last round."""
    return [name for name, curve in curves_.items() if rising(curve)]


def _accuracy(benchmark: Benchmark) -> Accuracy:
    settings = by_setting(benchmark)
    tops = {setting: best(methods) for setting, rows in settings.items() if (methods := federated(rows))}
    single = [of_setting(benchmark, rows, curves(benchmark, setting)) for setting, rows in settings.items()]
    return Accuracy(
        bests={level: [real(row["accuracy"]) for row in rows] for level, rows in _bests(benchmark).items()},
        pooled=[real(best(together)["accuracy"]) for rows in settings.values() if (together := pooled(rows))],
        failures=[failure for failure in failures(benchmark) if failure.total],
        setting=single[0] if len(single) == 1 else "",
        alone=_alone(benchmark, tops) if len(single) > 1 or not single[0] else None,
        federated=bool(tops),
        seeds=seed_counts(benchmark),
    )


def _alone(benchmark: Benchmark, tops: Mapping[str, Row]) -> Alone | None:
    settings = by_setting(benchmark)
    shares = {name: share for name, top in tops.items() if not math.isnan(share := alone(benchmark, top))}
    if not shares:
        return None
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    pairs = {name: _known_pair(on_own_images(benchmark, settings[name])) for name in dict.fromkeys((least, most))}
    own = {shown(name, 40): pair for name, pair in pairs.items() if pair}
    return Alone(shares[least], shown(least, 40), shares[most], shown(most, 40), own)


def _bests(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Return ε, "" for no promise → the best methods with it, one a setting."""
    bare, private = list[Row](), dict[str, list[Row]]()
    for rows in by_setting(benchmark).values():
        methods = federated(rows)
        if unprotected := [row for row in methods if not row.get("epsilon")]:
            bare.append(best(unprotected))
        for level, at_level in by_epsilon(methods).items():
            private.setdefault(level, []).append(best(at_level))
    return ({"": bare} if bare else {}) | {level: private[level] for level in few(falling(private))}


def _privacy(benchmark: Benchmark) -> Privacy:
    private = [row for row in benchmark.table if row.get("epsilon")]
    with_promise = {row["method"] for row in private}
    methods = federated(benchmark.table)
    bare = dict.fromkeys(row["method"] for row in methods if not row.get("epsilon"))
    values = [real(row["epsilon"]) for row in private]
    return Privacy(
        private=len(with_promise),
        methods=len({row["method"] for row in methods}),
        range=span(epsilon(min(values)), epsilon(max(values))) if values else "",
        deltas=sorted({power(real(row.get("delta"))) for row in private}),
        protected=promised(benchmark, private),
        never=[name for name in bare if name not in with_promise],
        sometimes=[name for name in bare if name in with_promise],
    )


def _cost(benchmark: Benchmark) -> Cost:
    spending = [row for row in federated(benchmark.table) if bytes_of(row) > 0]
    least, most = (choose(spending, key=bytes_of) if spending else None for choose in (min, max))
    seconds: Any = benchmark.about.get("seconds")
    total = sum(seconds.values()) if isinstance(seconds, dict) else real(seconds)
    bests = _bests(benchmark)
    spent = {level: [bytes_of(row) for row in rows if bytes_of(row) > 0] for level, rows in bests.items()}
    return Cost(
        bests={level: values for level, values in spent.items() if values},
        levels=len(bests),
        least=(least["method"], bytes_of(least)) if least else None,
        most=(most["method"], bytes_of(most)) if most else None,
        seconds=None if math.isnan(total) else round(total),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _known_pair(pair: Pair) -> Pair | None:
    return None if any(map(math.isnan, pair)) else pair
