"""The answer about a benchmark: facts on accuracy, privacy and cost, and on each setting."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedtransfer.simulations.report.benchmark_measures import Result, Results, by_setting, few, results
from fedtransfer.simulations.report.benchmark_runs import configs, curves, failures, promised
from fedtransfer.simulations.report.blocks import Fact, epsilon, power, printable, span
from fedtransfer.simulations.report.reading import Benchmark, real
from fedtransfer.simulations.report.sentences import fact, sentence
from fedtransfer.simulations.scoring.estimate import rising


def lead(benchmark: Benchmark) -> str:
    """Say what was compared on what."""
    about = benchmark.about
    data = [printable(str(name).rsplit("/", 1)[-1], 40) for name in about.get("data", [])][:6]
    backbones = about.get("backbones", [])
    networks = [f"{printable(each['name'], 60)} at {each.get('resolution', '?')} px" for each in backbones]
    methods = {result.method for result in results(benchmark).federated}
    facts = len(methods), len(by_setting(benchmark)), data, benchmark.seed_counts, networks
    return sentence("lead", "of_benchmark", *facts, configs(benchmark))


def answer(benchmark: Benchmark) -> list[Fact]:
    """Answer: how good, how private, at what cost."""
    return [_accuracy(benchmark), _privacy(benchmark), _cost(benchmark)]


def of_setting(group: Results, by_round: Mapping[str, Sequence[float]]) -> str:
    """Report a setting's best method, also at each ε, pooled training, and sites better off alone.

    Args:
        group: its results.
        by_round: its ``curves``.
    """
    methods = group.federated
    top, levels = methods.best, methods.by_level
    private = few(levels) if top and not top.level else []
    at_epsilon = [(level, levels[level].best) for level in private if level]
    shares = [result.alone for result in methods if result.alone is not None]
    facts = top, len(methods), group.pooled.best, at_epsilon, shares, group.on_own_images, rising_methods(by_round)
    return sentence("accuracy", "of_setting", *facts)


def rising_methods(by_round: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the methods whose accuracy still rose at their last round."""
    return [name for name, curve in by_round.items() if rising(curve)]


def _accuracy(benchmark: Benchmark) -> Fact:
    settings = by_setting(benchmark)
    tops = {name: top for name, group in settings.items() if (top := group.federated.best)}
    single = ""
    if len(settings) == 1:
        [(name, only)] = settings.items()
        single = of_setting(only, curves(benchmark, name))
    return fact(
        "accuracy",
        "of_benchmark",
        bests=_bests(benchmark),
        pooled=[top.accuracy for group in settings.values() if (top := group.pooled.best)],
        failures=[failure for failure in failures(benchmark) if failure.total],
        setting=single,
        alone=None if single else _alone(settings, tops),
        federated=bool(tops),
        seeds=benchmark.seed_counts,
    )


def _alone(settings: Mapping[str, Results], tops: Mapping[str, Result]) -> dict[str, Any] | None:
    """Return the lowest and highest share, over settings, of sites that do better alone."""
    shares = {name: top.alone for name, top in tops.items() if top.alone is not None}
    if not shares:
        return None
    least, most = (choose(shares, key=lambda name: shares[name]) for choose in (min, max))
    pairs = {name: pair for name in (least, most) if (pair := settings[name].on_own_images)}
    return {"least": (least, shares[least]), "most": (most, shares[most]), "own": pairs}


def _bests(benchmark: Benchmark) -> dict[str, list[Result]]:
    """Return ε, "" for no promise → the best methods with it, one a setting."""
    bests: dict[str, list[Result]] = {}
    for group in by_setting(benchmark).values():
        for level, at_level in group.federated.by_level.items():
            bests.setdefault(level, []).extend(filter(None, [at_level.best]))
    return {level: bests[level] for level in few(bests)}


def _privacy(benchmark: Benchmark) -> Fact:
    private = [result for result in results(benchmark) if result.level]
    with_promise = {result.method for result in private}
    methods = results(benchmark).federated
    bare = dict.fromkeys(result.method for result in methods if not result.level)
    values = [result.epsilon for result in private]
    return fact(
        "privacy",
        "of_benchmark",
        private=len(with_promise),
        methods=len({result.method for result in methods}),
        range=span(epsilon(min(values)), epsilon(max(values))) if values else "",
        deltas=sorted({power(real(result.row.get("delta"))) for result in private}),
        protected=promised(benchmark, private),
        never=[name for name in bare if name not in with_promise],
        sometimes=[name for name in bare if name in with_promise],
    )


def _cost(benchmark: Benchmark) -> Fact:
    spending = [result for result in results(benchmark).federated if result.bytes > 0]
    ends = [choose(spending, key=lambda result: result.bytes) for choose in (min, max)] if spending else []
    seconds: Any = benchmark.about.get("seconds")
    total = sum(seconds.values()) if isinstance(seconds, dict) else real(seconds)
    bests = {level: [one for one in group if one.bytes > 0] for level, group in _bests(benchmark).items()}
    return fact("cost", "of_benchmark", bests, ends, None if math.isnan(total) else round(total))
