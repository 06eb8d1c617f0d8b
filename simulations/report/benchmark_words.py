"""What a benchmark found, in sentences, and how its measures are told."""

import math

from common.words import size
from simulations.report.blocks import Fact, counted, listed, number, percent, power, shown, span
from simulations.report.reading import Benchmark, Row, real

BASELINES = ("pooled softmax", "pooled ridge", "pooled NCM", "pooled LDA", "local only", "majority class")
SHARES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_f1": "macro F1",
    "worst_site": "worst site",
    "bottom_decile": "worst tenth of sites",
    "worse_than_local": "sites worse off than alone",
    "difference": "difference to fedavg",
    "personal": "personal heads",
    "personal_mixed": "personal heads, mixed",
    "personal_worse": "worse by personal heads",
    "unseen": "unseen sites",
    "unseen_adapted": "unseen sites, adapted",
}
NUMBERS = {"auroc": "AUROC", "nll": "log loss, nats", "ece": "calibration error"}
COSTS = {
    "rounds": "rounds to 95 % of pooled",
    "reached": "seeds that got there",
    "bytes": "bytes to 95 % of pooled",
    "bytes_up": "bytes sent",
    "bytes_down": "bytes received",
    "seconds_features": "s, features",
    "seconds_training": "s, training",
    "seconds_aggregation": "s, aggregation",
    "peak_mb": "peak memory",
}


def facts(benchmark: Benchmark) -> tuple[Fact, ...]:
    """Answer: how good, how private, at what cost."""
    good, best = [], []
    for setting, rows in by_setting(benchmark).items():
        made = [row for row in rows if row["method"] not in BASELINES and row["accuracy"]]
        if not made:
            continue
        top = max(made, key=lambda row: real(row["accuracy"]))
        best.append(real(top["accuracy"]))
        pooled = [row for row in rows if row["method"].startswith("pooled") and row["accuracy"]]
        sentence = (
            f"{shown(setting, 60)}: the best of {counted(len(made), 'method')} is {shown(top['method'], 40)} with "
            f"{pair(top, 'accuracy')}"
        )
        if pooled:
            reference = max(pooled, key=lambda row: real(row["accuracy"]))
            sentence += (
                f"; {shown(reference['method'], 40)}, all images in one place, has {pair(reference, 'accuracy')}"
            )
        private = [row for row in made if row.get("epsilon")]
        if private and not top.get("epsilon"):
            most = max(private, key=lambda row: real(row["accuracy"]))
            sentence += (
                f"; with differential privacy the best is {shown(most['method'], 40)} with {pair(most, 'accuracy')} at ε = "
                f"{number(real(most['epsilon']))}"
            )
        good.append(f"{sentence}.")
    private = [row for row in benchmark.table if row.get("epsilon")]
    none = [row for row in benchmark.table if not row.get("epsilon") and row["method"] not in BASELINES]
    told = []
    if private:
        deltas = sorted({power(real(row.get("delta"))) for row in private})
        least, greatest = (f(real(row["epsilon"]) for row in private) for f in (min, max))
        told.append(
            f"Differential privacy is promised in {counted(len(private), 'row')} of the table, with ε from {number(least)} to "
            f"{number(greatest)} at δ = {listed(deltas)}; unit and neighbours stand in each run's folder."
        )
    if none:
        methods = counted(len({row["method"] for row in none}), "method")
        told.append(
            f"No promise of privacy is made by {methods}, in some setting at least: nothing bounds what can be learnt there."
        )
    bytes_ = [
        spent
        for row in benchmark.table
        if row["method"] not in BASELINES and not math.isnan(spent := bytes_of(row)) and spent > 0
    ]
    seconds = benchmark.about.get("seconds")
    total = sum(seconds.values()) if isinstance(seconds, dict) else real(seconds)
    cost = [f"To and from a site in a whole run: from {size(min(bytes_))} to {size(max(bytes_))}."] if bytes_ else []
    if not math.isnan(total):
        took = f"{total / 60:,.0f} minutes" if total >= 120 else f"{total:,.0f} s"
        cost.append(f"The benchmark took {took} on the machine that made it.")
    return (
        Fact(
            "How good?",
            span(percent(min(best)), percent(max(best))) if best else "–",
            (
                *good[:6],
                *([f"And {len(good) - 6} more settings, below."] if len(good) > 6 else []),
                "± is half of the 95 % interval over seeds. What is called best is so on the test images that it is scored on: "
                "of many methods, or of few that are close, another may be as good.",
            ),
        ),
        Fact(
            "How private?",
            f"ε = {span(number(least), number(greatest))}" if private else "no promise",
            tuple(told),
        ),
        Fact("At what cost?", span(size(min(bytes_)), size(max(bytes_))) if bytes_ else "–", tuple(cost)),
    )


def lead(benchmark: Benchmark) -> str:
    """Say what was compared on what."""
    about = benchmark.about
    methods = list(dict.fromkeys(row["method"] for row in benchmark.table if row["method"] not in BASELINES))
    data = listed([shown(str(name).rsplit("/", 1)[-1], 40) for name in about.get("data", [])][:6])
    seeds = sorted({int(real(row["seeds"])) for row in benchmark.table if row.get("seeds")})
    backbones = [
        f"{shown(told['name'], 60)} at {told.get('resolution', '?')} px" for told in about.get("backbones", [])
    ]
    return (
        f"A benchmark of {counted(len(methods), 'method')} in {counted(len(by_setting(benchmark)), 'setting')} on "
        f"{data or 'data that it does not name'}, "
        f"{span(str(seeds[0]), str(seeds[-1])) if seeds else '?'} seeds each. Frozen "
        f"{'backbones' if len(backbones) > 1 else 'backbone'}: {listed(backbones) or '?'}."
    )


def by_setting(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Return setting → its rows of the table."""
    groups: dict[str, list[Row]] = {}
    for row in benchmark.table:
        groups.setdefault(row["setting"], []).append(row)
    return groups


def bytes_of(row: Row) -> float:
    """Return bytes to and from a site in a whole run, or until 95 % of pooled where only these are known."""
    both = real(row.get("bytes_up")) + real(row.get("bytes_down"))
    return real(row.get("bytes")) if math.isnan(both) else both


def pair(row: Row, name: str) -> str:
    """Return a measure as it is told: mean ± half of the 95 % interval; an empty text where there is none."""
    mean, half = real(row.get(name)), real(row.get(f"{name}_interval"))
    if math.isnan(mean):
        return ""
    tail = not math.isnan(half)
    if name in SHARES:
        return f"{100 * mean:.1f}" + (f" ± {100 * half:.1f}" if tail else "") + "\u00a0%"
    if name.startswith("bytes"):
        return size(mean)
    if name == "peak_mb":
        return f"{mean:,.0f} MB"
    if name in NUMBERS:
        return f"{mean:.3f}" + (f" ± {half:.3f}" if tail else "")
    return f"{mean:,.0f}" if name == "reached" else f"{mean:,.1f}" + (f" ± {half:,.1f}" if tail else "")
