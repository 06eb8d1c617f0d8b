"""The answer about a benchmark: facts on accuracy, privacy and cost, and on each setting."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
from fedtransfer.simulations.report.blocks import Fact, epsilon, percent, power, printable, span
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.sentences import fact, sentence
from fedtransfer.simulations.scoring.estimate import rising

Pair = tuple[float, float]


def lead(benchmark: Benchmark) -> str:
    """Say what was compared on what."""
    about = benchmark.about
    data = [printable(str(name).rsplit("/", 1)[-1], 40) for name in about.get("data", [])][:6]
    networks = [
        f"{printable(each['name'], 60)} at {each.get('resolution', '?')} px" for each in about.get("backbones", [])
    ]
    methods = {row["method"] for row in federated(benchmark.table)}
    return sentence(
        "lead",
        "of_benchmark",
        methods=len(methods),
        settings=len(by_setting(benchmark)),
        data=data,
        seeds=seed_counts(benchmark),
        networks=networks,
        configs=configs(benchmark),
    )


def answer(benchmark: Benchmark) -> tuple[Fact, ...]:
    """Answer: how good, how private, at what cost."""
    return _accuracy(benchmark), _privacy(benchmark), _cost(benchmark)


def of_setting(benchmark: Benchmark, rows: Sequence[Row], curves_: Mapping[str, Sequence[float]]) -> str:
    """Report a setting's best method, also at each ε, pooled training, and sites better off alone.

    Args:
        benchmark: the whole.
        rows: of the setting.
        curves_: its ``curves``.
    """

    def named(row: Row) -> tuple[str, str]:
        return row["method"], text_of(benchmark, row, "accuracy")

    methods, together = federated(rows), pooled(rows)
    top = best(methods) if methods else None
    levels = few(list(by_epsilon(methods).items())) if top and not top.get("epsilon") else []
    shares = [share for row in methods if not math.isnan(share := alone(benchmark, row))]
    return sentence(
        "accuracy",
        "of_setting",
        top=named(top) if top else None,
        methods=len(methods),
        pooled=named(best(together)) if together else None,
        at_epsilon=[(level, named(best(at_level))) for level, at_level in levels],
        alone=share if top and not math.isnan(share := alone(benchmark, top)) else None,
        alone_least=percent(min(shares), 0) if shares else "",
        alone_most=percent(max(shares), 0) if shares else "",
        own=_known_pair(on_own_images(benchmark, rows)),
        rising=rising_methods(curves_),
    )


def rising_methods(curves_: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the methods whose accuracy still rose at their last round."""
    return [name for name, curve in curves_.items() if rising(curve)]


def _accuracy(benchmark: Benchmark) -> Fact:
    settings = by_setting(benchmark)
    tops = {setting: best(methods) for setting, rows in settings.items() if (methods := federated(rows))}
    single = [of_setting(benchmark, rows, curves(benchmark, setting)) for setting, rows in settings.items()]
    return fact(
        "accuracy",
        "of_benchmark",
        bests={level: [real(row["accuracy"]) for row in rows] for level, rows in _bests(benchmark).items()},
        pooled=[real(best(together)["accuracy"]) for rows in settings.values() if (together := pooled(rows))],
        failures=[failure for failure in failures(benchmark) if failure.total],
        setting=single[0] if len(single) == 1 else "",
        alone=_alone(benchmark, tops) if len(single) > 1 or not single[0] else None,
        federated=bool(tops),
        seeds=seed_counts(benchmark),
    )


def _alone(benchmark: Benchmark, tops: Mapping[str, Row]) -> dict[str, Any] | None:
    """Return the lowest and highest share, over settings, of sites that do better alone."""
    settings = by_setting(benchmark)
    shares = {name: share for name, top in tops.items() if not math.isnan(share := alone(benchmark, top))}
    if not shares:
        return None
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    pairs = {name: _known_pair(on_own_images(benchmark, settings[name])) for name in dict.fromkeys((least, most))}
    return {
        "least": shares[least],
        "at_least": printable(least, 40),
        "most": shares[most],
        "at_most": printable(most, 40),
        "own": {printable(name, 40): pair for name, pair in pairs.items() if pair},
    }


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


def _privacy(benchmark: Benchmark) -> Fact:
    private = [row for row in benchmark.table if row.get("epsilon")]
    with_promise = {row["method"] for row in private}
    methods = federated(benchmark.table)
    bare = dict.fromkeys(row["method"] for row in methods if not row.get("epsilon"))
    values = [real(row["epsilon"]) for row in private]
    return fact(
        "privacy",
        "of_benchmark",
        private=len(with_promise),
        methods=len({row["method"] for row in methods}),
        range=span(epsilon(min(values)), epsilon(max(values))) if values else "",
        deltas=sorted({power(real(row.get("delta"))) for row in private}),
        protected=promised(benchmark, private),
        never=[name for name in bare if name not in with_promise],
        sometimes=[name for name in bare if name in with_promise],
    )


def _cost(benchmark: Benchmark) -> Fact:
    spending = [row for row in federated(benchmark.table) if bytes_of(row) > 0]
    least, most = (choose(spending, key=bytes_of) if spending else None for choose in (min, max))
    seconds: Any = benchmark.about.get("seconds")
    total = sum(seconds.values()) if isinstance(seconds, dict) else real(seconds)
    bests = _bests(benchmark)
    spent = {level: [bytes_of(row) for row in rows if bytes_of(row) > 0] for level, rows in bests.items()}
    return fact(
        "cost",
        "of_benchmark",
        bests={level: values for level, values in spent.items() if values},
        levels=len(bests),
        least=(least["method"], bytes_of(least)) if least else None,
        most=(most["method"], bytes_of(most)) if most else None,
        seconds=None if math.isnan(total) else round(total),
    )


def _known_pair(pair: Pair) -> Pair | None:
    return None if any(map(math.isnan, pair)) else pair
