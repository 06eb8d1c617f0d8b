"""What a benchmark found, in sentences."""

import math
from collections.abc import Mapping, Sequence

from fedtransfer.common.support.text import counted, size
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
from fedtransfer.simulations.report.benchmark_measures import by_setting, bytes_of, certainty, seeds_each, told
from fedtransfer.simulations.report.benchmark_runs import configs, curves, failures, promised
from fedtransfer.simulations.report.blocks import Fact, epsilon, listed, percent, power, shown, span
from fedtransfer.simulations.report.estimates import rising
from fedtransfer.simulations.report.reading import Benchmark, Row, real
from fedtransfer.simulations.report.words import backbones


def facts(benchmark: Benchmark) -> tuple[Fact, ...]:
    """Answer: how good, how private, at what cost."""
    return _how_good(benchmark), _how_private(benchmark), _at_what_cost(benchmark)


def lead(benchmark: Benchmark) -> str:
    """Say what was compared on what."""
    about = benchmark.about
    methods = list(dict.fromkeys(row["method"] for row in federated(benchmark.table)))
    data = listed([shown(str(name).rsplit("/", 1)[-1], 40) for name in about.get("data", [])][:6])
    networks = [f"{shown(told['name'], 60)} at {told.get('resolution', '?')} px" for told in about.get("backbones", [])]
    return (
        f"A benchmark of {counted(len(methods), 'method') if methods else 'baselines alone'} in {counted(len(by_setting(benchmark)), 'setting')} on "
        f"{data or 'data that it does not name'}, {seeds_each(benchmark)}. "
        f"{backbones(networks or ['?'], configs(benchmark))}."
    )


def rising_methods(curves_: Mapping[str, Sequence[float]]) -> str:
    """Say which methods would gain by more rounds: ``fedavg and fedprox were still rising at their last round``; or ""."""
    names = [shown(name, 40) for name, curve in curves_.items() if rising(curve)]
    if len(names) > 4:
        names = [*names[:3], f"{len(names) - 3} more"]
    return f"{listed(names)} {'was' if len(names) == 1 else 'were'} still rising at the last round" if names else ""


def of_setting(benchmark: Benchmark, rows: Sequence[Row], known: Mapping[str, Sequence[float]]) -> str:
    """Say which method of a setting is best, also at each ε, what all images in one place give, and who does better alone.

    Args:
        benchmark: the whole.
        rows: of the setting.
        known: its ``curves``.
    """
    made, together = federated(rows), pooled(rows)

    def with_score(row: Row) -> str:
        return f"{shown(row['method'], 40)} with {told(benchmark, row, 'accuracy')}"

    if not made and not together:
        return ""
    if not made:
        return (
            f"No method was run; the best baseline is {shown(best(together)['method'], 40)}, all images in one place, with "
            f"{told(benchmark, best(together), 'accuracy')}."
        )
    top = best(made)
    parts = [f"The best of {counted(len(made), 'method')} is {with_score(top)}"]
    if together:
        reference = best(together)
        parts.append(
            f"{shown(reference['method'], 40)}, all images in one place, has {told(benchmark, reference, 'accuracy')}"
        )
    if not top.get("epsilon"):
        levels = few(list(by_epsilon(made).items()))
        parts += [f"at ε = {level} the best is {with_score(best(mine))}" for level, mine in levels]
    sentence = "; ".join(parts) + "."
    shares = [share for row in made if not math.isnan(share := alone(benchmark, row))]
    if shares and not math.isnan(share := alone(benchmark, top)):
        least, most = percent(min(shares), 0), percent(max(shares), 0)
        others = "" if least == most else f" (by method, from {least} to {most})"
        sentence += (
            f" {percent(share, 0)} of sites do better alone on their own test images than with {shown(top['method'], 40)}"
            f"{others}."
        )
        own = on_own_images(benchmark, rows)
        if not any(map(math.isnan, own)):
            sentence += f" In the mean over sites it has {percent(own[0])} there, each site alone {percent(own[1])}."
    if rise := rising_methods(known):
        sentence += f" {rise[0].upper() if rise[0].isdigit() else rise[0]}{rise[1:]}: more rounds may give more."
    return sentence


def _how_good(benchmark: Benchmark) -> Fact:
    settings = by_setting(benchmark)
    tops = {shown(name, 40): best(made) for name, rows in settings.items() if (made := federated(rows))}
    sentences = []
    if len(settings) == 1:
        sentences = [of_setting(benchmark, rows, curves(benchmark, name)) for name, rows in settings.items()]
    shares = {name: share for name, top in tops.items() if not math.isnan(share := alone(benchmark, top))}
    if not sentences and shares:
        least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
        range_ = f"{percent(shares[least], 0)} ({least}) to {percent(shares[most], 0)} ({most})"
        if shares[least] == shares[most]:
            range_ = percent(shares[least], 0)
        sentences.append(f"{range_} of sites do better alone on their own test images than with the best method.")
        on_own = {
            shown(name, 40): own
            for name, rows in settings.items()
            if not any(map(math.isnan, own := on_own_images(benchmark, rows)))
        }
        told_ = [
            f"{percent(on_own[name][0])} with that and {percent(on_own[name][1])} alone ({name})"
            for name in dict.fromkeys((least, most))
            if name in on_own
        ]
        if told_:
            sentences.append(f"In the mean over sites they have there {'; '.join(told_)}.")
    if tops:
        sentences.append(
            "What is called best is so on the test images that it is scored on: of many methods, or of few that are close, "
            "another may be as good."
        )
    missing = [f"Nothing is known of {shown(failed, 600)}." for failed in failures(benchmark) if failed.total]
    return Fact("How good?", _headline(benchmark), (*missing, *filter(None, sentences), certainty(benchmark)))


def _headline(benchmark: Benchmark) -> str:
    """Pair accuracies with what they are promised: the best without a promise and the best at each ε, over settings."""
    parts = [f"{_span([real(row['accuracy']) for row in mine])} {what}" for what, mine in _bests(benchmark).items()]
    if not parts and (bests := [best(mine) for rows in by_setting(benchmark).values() if (mine := pooled(rows))]):
        return f"{_span([real(row['accuracy']) for row in bests])} with all images in one place"
    return ", ".join(parts) or "–"


def _bests(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Return what is promised, in words → the best of each setting that promise it."""
    bare, at = list[Row](), dict[str, list[Row]]()
    for rows in by_setting(benchmark).values():
        made = federated(rows)
        if unprotected := [row for row in made if not row.get("epsilon")]:
            bare.append(best(unprotected))
        for level, mine in by_epsilon(made).items():
            at.setdefault(level, []).append(best(mine))
    protected = {f"at ε = {level}": at[level] for level in few(falling(at))}
    return {**({"without differential privacy": bare} if bare else {}), **protected}


def _span(shares: Sequence[float]) -> str:
    return span(f"{100 * min(shares):.0f}", f"{100 * max(shares):.0f}") + "\u00a0%"


def _how_private(benchmark: Benchmark) -> Fact:
    private = [row for row in benchmark.table if row.get("epsilon")]
    protecting = {row["method"] for row in private}
    bare = dict.fromkeys(row["method"] for row in federated(benchmark.table) if not row.get("epsilon"))
    never, sometimes = ([name for name in bare if (name in protecting) is some] for some in (False, True))
    told_, number = [], "no promise"
    if private:
        deltas = sorted({power(real(row.get("delta"))) for row in private})
        values = [real(row["epsilon"]) for row in private]
        range_ = span(epsilon(min(values)), epsilon(max(values)))
        number = f"ε = {range_} by {len(protecting)} of {counted(len({row['method'] for row in federated(benchmark.table)}), 'method')}"
        protected = promised(benchmark, private)
        promise = f"Differential privacy with ε = {range_} at δ = {listed(deltas)} is promised by {counted(len(protecting), 'method')}"
        if not protected:
            told_.append(f"{promise}; unit and neighbours stand in each run's folder.")
        elif len(protected) == 1:
            told_.append(f"{promise}, for {next(iter(protected))}.")
        else:
            told_.append(f"{promise}:")
            told_ += [f"for {what}: {listed([shown(name, 40) for name in mine])}." for what, mine in protected.items()]
        told_.append("That is of each run by itself; together they promise less.")
    if never and not private:
        none = f"None of the {len(never)} methods promises" if len(never) > 1 else f"{shown(never[0], 40)} promises no"
        told_.append(f"{none} privacy: nothing bounds what can be learnt.")
    elif never:
        told_.append(
            f"No promise of privacy is made by {counted(len(never), 'method')}: nothing bounds what can be learnt there."
        )
    if sometimes:
        told_.append(
            f"In some settings none is made by {listed([shown(name, 40) for name in sometimes])}: nothing bounds what can be "
            "learnt there."
        )
    return Fact("How private?", number, tuple(told_) or ("Nothing was federated: baselines alone were made.",))


def _at_what_cost(benchmark: Benchmark) -> Fact:
    spending = [row for row in federated(benchmark.table) if bytes_of(row) > 0]
    seconds = benchmark.about.get("seconds")
    total = sum(seconds.values()) if isinstance(seconds, dict) else real(seconds)
    cost, parts = list[str](), list[str]()
    bests = _bests(benchmark)
    for what, rows in bests.items():
        if spent := [bytes_of(row) for row in rows if bytes_of(row) > 0]:
            parts.append(
                f"{span(size(min(spent)), size(max(spent)))} for the best {what if len(bests) > 1 else 'method'}"
            )
    if spending:
        least, most = min(spending, key=bytes_of), max(spending, key=bytes_of)
        cost.append(
            f"To and from a site in a whole run. Of all methods least by {shown(least['method'], 40)}, {size(bytes_of(least))}, "
            f"most by {shown(most['method'], 40)}, {size(bytes_of(most))}."
        )
    if not math.isnan(total):
        minutes, seconds_ = divmod(round(total), 60)
        took = f"{minutes:,} min {seconds_} s" if minutes else f"{seconds_} s"
        cost.append(f"Its last start took {took} on the machine that made it; runs that were there are not made again.")
    return Fact("At what cost?", ", ".join(parts) or "–", tuple(cost))
