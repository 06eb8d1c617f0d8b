"""The picture of a plan with differential privacy: accuracy against epsilon, a panel a setting, a line a method."""

from collections.abc import Sequence
from pathlib import Path

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.support.pictures import save_figure
from fedtransfer.simulations.benchmark.plans import Plan
from fedtransfer.simulations.benchmark.tables import Line

_MARKERS = "osD^vP*X"  # so that lines differ without colour too


def plot_epsilon(plan: Plan, lines: Sequence[Line], path: Path) -> None:
    """Draw accuracy against ε on a logarithmic axis, with 95 % intervals; dotted: the same method without noise.

    A line joins the runs that differ only in ε. Nothing is drawn if no run of the plan has an ε.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter, ScalarFormatter

    configs = {(cell.setting, cell.method): cell.config for cell in plan.cells}
    settings = list(dict.fromkeys(setting for (setting, _), config in configs.items() if config.epsilon))
    if not settings:
        return
    figure = Figure(figsize=(5.5 * len(settings), 4.4), layout="constrained")
    panels = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    names = list(dict.fromkeys(_name(config) for config in configs.values()))
    epsilons = sorted({config.epsilon for config in configs.values() if config.epsilon})
    for axes, setting in zip(panels, settings, strict=True):
        series: dict[str, list[tuple[float, Line]]] = {}
        for line in lines:
            if line.setting == setting and (config := configs.get((setting, line.method))):
                series.setdefault(_name(config), []).append((config.epsilon, line))
        for name, points in series.items():
            color, marker = f"C{names.index(name)}", _MARKERS[names.index(name) % len(_MARKERS)]
            private = sorted((e, line) for e, line in points if e)
            if private:
                x, y = [e for e, _ in private], [line.estimates["accuracy"].mean for _, line in private]
                bars = [line.estimates["accuracy"].half for _, line in private]
                axes.errorbar(x, y, bars, label=name, color=color, marker=marker, capsize=3)
            for line in (line for e, line in points if not e):
                axes.axhline(line.estimates["accuracy"].mean, color=color, linestyle=":", linewidth=1.5)
        axes.set(title=setting, xlabel="ε at the plan's δ (add or remove one unit)", xscale="log")
        axes.set_xticks(epsilons, minor=False)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on the common test set")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles),
        title="dotted: the same without noise",
    )  # fmt: skip
    save_figure(figure, path)


def _name(config: RunConfig) -> str:
    """Return the name that runs share if they differ only in ε, the one without noise included."""
    projected = f", {config.dimensions} dimensions" if config.dimensions else ""
    return f"{config.strategy}{projected}"
