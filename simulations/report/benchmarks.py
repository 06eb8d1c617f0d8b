"""The page about a benchmark: the answer, the methods of every setting, and how it was done."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedtransfer.simulations.report import benchmark_runs
from fedtransfer.simulations.report.benchmark_figures import figures
from fedtransfer.simulations.report.benchmark_measures import Result, Results, by_setting, few, results
from fedtransfer.simulations.report.benchmark_runs import Curves, curves, rising_methods
from fedtransfer.simulations.report.blocks import Fact, Page, Section, Table
from fedtransfer.simulations.report.reading import Benchmark, real
from fedtransfer.simulations.report.sentences import fact, sentence, table
from fedtransfer.simulations.report.texts import backbone, epsilon, names, percent, power, printable, span
from fedtransfer.simulations.scoring.estimate import REACHED

_ADAPTED, _COSTS = names("shares_of_adapted_heads"), names("costs")
_SCORES = {**names("shares"), **names("points"), **names("numbers")}


def page(benchmark: Benchmark) -> Page:
    """Lay out the page: the answer, the glance table, a section per setting, and the setup."""
    settings = by_setting(benchmark)
    parts = [_glance(benchmark, settings)] if len(settings) > 1 else []
    for i, (setting, group) in enumerate(settings.items()):
        by_round = curves(benchmark, setting)
        # The answer above says it about a single setting.
        about = _of_setting(group, by_round) if len(settings) > 1 else ""
        text = [*filter(None, (benchmark_runs.described(benchmark, setting), about))]
        adapted = _measures(benchmark, group, "Heads adapted to a site, on its own test images", _ADAPTED)
        tables = [_scores(benchmark, group), adapted, _costs(benchmark, group)]
        tables = [each for each in tables if len(each.columns) > 1]
        drawings = figures(benchmark, setting, group, by_round)
        parts.append(Section(f"setting-{i}", printable(setting, 100), text, figures=drawings, tables=tables))
    answer = [_accuracy(benchmark), _privacy(benchmark), _cost(benchmark)]
    return Page(printable(benchmark.name), _lead(benchmark), answer, [*parts, *_how(benchmark)])


def _lead(benchmark: Benchmark) -> str:
    """Say what was compared on what."""
    about = benchmark.about
    data = [printable(str(name).rsplit("/", 1)[-1], 40) for name in about.get("data", [])][:6]
    backbones = about.get("backbones", [])
    networks = [backbone(each["name"], each.get("resolution", "?")) for each in backbones]
    methods = {result.method for result in results(benchmark).federated}
    facts = len(methods), len(by_setting(benchmark)), data, benchmark.seed_counts, networks
    return sentence("lead", "of_benchmark", *facts, benchmark_runs.configs(benchmark))


def _of_setting(group: Results, by_round: Curves) -> str:
    """Report a setting's best method, also at each ε, pooled training, and sites better alone."""
    methods = group.federated
    top, together, levels = methods.best, group.pooled.best, methods.by_level
    private = few(levels) if top and not top.level else []
    at_epsilon = [(level, levels[level].best) for level in private if level]
    shares = [result.alone for result in methods if result.alone is not None]
    facts = top, len(methods), together, at_epsilon, shares, group.on_own_images
    return sentence("accuracy", "of_setting", *facts, rising_methods(by_round))


def _accuracy(benchmark: Benchmark) -> Fact:
    settings = by_setting(benchmark)
    tops = {name: top for name, group in settings.items() if (top := group.federated.best)}
    first, only = next(iter(settings.items()), ("", Results()))
    single = _of_setting(only, curves(benchmark, first)) if len(settings) == 1 else ""
    pooled = [top.accuracy for group in settings.values() if (top := group.pooled.best)]
    failures = [failure for failure in benchmark_runs.failures(benchmark) if failure.total]
    facts = _bests(benchmark), pooled, failures, single, None if single else _alone(settings, tops)
    return fact("accuracy", "of_benchmark", *facts, bool(tops), benchmark.seed_counts)


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
            if best := at_level.best:
                bests.setdefault(level, []).append(best)
    return {level: bests[level] for level in few(bests)}


def _privacy(benchmark: Benchmark) -> Fact:
    private = Results(result for result in results(benchmark) if result.level)
    methods = {result.method for result in results(benchmark).federated}
    with_promise = {result.method for result in private}
    bare = dict.fromkeys(result.method for result in results(benchmark).federated if not result.level)
    never, sometimes = ([name for name in bare if (name in with_promise) == some] for some in (False, True))
    values = [result.epsilon for result in private]
    spread = span(epsilon(min(values)), epsilon(max(values))) if values else ""
    deltas = sorted({power(real(result.row.get("delta"))) for result in private})
    promises = len(with_promise), len(methods), spread, deltas, benchmark_runs.promised(benchmark, private)
    return fact("privacy", "of_benchmark", *promises, never, sometimes)


def _cost(benchmark: Benchmark) -> Fact:
    spending = [result for result in results(benchmark).federated if result.bytes > 0]
    ends = [choose(spending, key=lambda result: result.bytes) for choose in (min, max)] if spending else []
    seconds: Any = benchmark.about.get("seconds")
    total = sum(seconds.values()) if isinstance(seconds, dict) else real(seconds)
    bests = {level: [one for one in group if one.bytes > 0] for level, group in _bests(benchmark).items()}
    return fact("cost", "of_benchmark", bests, ends, None if math.isnan(total) else round(total))


def _glance(benchmark: Benchmark, settings: Mapping[str, Results]) -> Section:
    """Return a section with a row per setting: the best of each kind."""
    levels = [*filter(None, few({one.level for group in settings.values() for one in group.federated}))]
    rows = [[printable(name, 60), *_best_of_each(group, levels)] for name, group in settings.items()]
    alone_compared = any(row[-2] or row[-1] for row in rows)
    about = benchmark_runs.same_test_images(benchmark), benchmark.seed_counts, alone_compared, levels
    bests = table("glance", rows, *about, texts=True).compact().shortened()
    return Section("glance", "At a glance", tables=[bests])


def _best_of_each(group: Results, levels: Sequence[str]) -> list[str]:
    of_level, top, pair = group.federated.by_level, group.federated.best, group.on_own_images
    kinds = [of_level.get(level, Results()).best for level in ("", *levels)] + [group.pooled.best]
    cells = [f"{one.text()}, {printable(one.family, 40)}" if one else "" for one in kinds]
    local = [one.text() for one in group if one.method == "local only"]
    share = percent(top.alone, 0) if top and top.alone is not None else ""
    return [*cells, *(local or [""]), " / ".join(map(percent, pair or ())), share]


def _scores(benchmark: Benchmark, group: Results) -> Table:
    """Lay out the scores that at least one method has, with ε next to the method."""
    few_sites = all(one.row.get("bottom_decile") == one.row.get("worst_site") for one in group)
    scores = [name for name in _SCORES if name != ("bottom_decile" if few_sites else "worst_site")]
    seeds, close = len({one.row.get("seeds") for one in group}) > 1, group.federated.as_good
    columns, rows = ["method", "ε", "seeds", *(_SCORES[name] for name in scores), "expected", "source"], []
    for one in group:
        expected = percent(real(one.row["expected"])) if one.row.get("expected") else ""
        about = printable(one.method, 60), one.level, one.row["seeds"] if seeds else ""
        rows.append([*about, *map(one.text, scores), expected, printable(one.row.get("source", ""), 120)])
    marked = frozenset(i for i, one in enumerate(group) if one in close)
    note = sentence("tables", "scores", benchmark.seed_counts, len(marked))
    return Table("Scores", columns, rows, note, marked).compact().shortened(where="table.csv")


def _measures(benchmark: Benchmark, group: Results, caption: str, columns: Mapping[str, str]) -> Table:
    """Lay out the measures that at least one federated method has."""
    rows = [[printable(one.method, 60), *map(one.text, columns)] for one in group.federated]
    note = sentence("accuracy", "certainty", benchmark.seed_counts)
    return Table(caption, ["method", *columns.values()], rows, note).compact().shortened(where="table.csv")


def _costs(benchmark: Benchmark, group: Results) -> Table:
    """Lay out the costs, with a note if another pooled head is far better than pooled softmax."""
    costs, top = _measures(benchmark, group, "Costs", _COSTS), group.pooled.best
    softmax = next((one.accuracy for one in group.pooled if one.method == "pooled softmax"), math.inf)
    if _COSTS["rounds"] not in costs.columns or not top or softmax >= REACHED * top.accuracy:
        return costs
    remark = sentence("tables", "softmax_falls_short", softmax, top.accuracy, top.method)
    return replace(costs, note=f"{costs.note} {remark}")


def _how(benchmark: Benchmark) -> list[Section]:
    about, tables = benchmark.about, []
    if backbones := about.get("backbones"):
        keys = ("name", "resolution", "preprocessing", "fingerprint")
        rows = [[printable(each.get(key, "–"), 200) for key in keys] for each in backbones]
        tables.append(table("backbones", rows))
    for key, caption in (("tuning", "What was tuned"), ("expected", "Numbers from elsewhere")):
        if entries := about.get(key):
            columns = [*dict.fromkeys(name for entry in entries for name in entry)]
            missing = {"measured": "not run"}
            rows = [[_any(entry.get(name), missing.get(name, "–")) for name in columns] for entry in entries]
            tables.append(Table(caption, columns, rows).shortened(where="benchmark.json"))
    if isinstance(seconds := about.get("seconds"), dict):
        rows = [[printable(part), f"{value:,.0f}"] for part, value in seconds.items()]
        tables.append(table("seconds", rows))
    text = [f"Left out: {printable(remark, 300)}" for remark in about.get("left_out") or []]
    text += [f"{printable(failure, 600)}." for failure in benchmark_runs.failures(benchmark)]
    sections = [Section("how", "How it was done", text[:40], tables=tables)] if tables or text else []
    if benchmark.plan:
        sections.append(Section("plan", "Configuration: the plan", code=[benchmark.plan], folded=True))
    if command := about.get("command"):
        sections.append(Section("repeat", "To repeat it", code=[printable(command, 2000)]))
    return sections


def _any(value: object, missing: str = "–") -> str:
    if value is None:
        return missing
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return printable(", ".join(f"{name} {_any(inner)}" for name, inner in value.items()), 300)
    return printable(", ".join(map(_any, value)), 300) if isinstance(value, list) else printable(value, 300)
