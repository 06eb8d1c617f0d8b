"""Plots of a run: accuracy and loss by round."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedtransfer.common.support.pictures import save_figure

_FEW = 10  # up to this number of rounds, each has a marker


def plot_curves(history: Sequence[Mapping[str, str]], best_round: int, path: Path) -> None:
    """Draw accuracy and loss on test and validation images by round; a line marks the best head.

    If sites return no scores, draw epsilon spent by round instead.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    scored = any(row["accuracy"] or row["validation_accuracy"] for row in history)
    if not scored and any(row["epsilon"] for row in history):
        _plot_epsilon(history, path)
        return
    rows = [row for row in history if row["status"] == "ok" and row["phase"] in ("train", "score")]
    x = [int(row["round"]) - 1 for row in rows]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    marker = "o" if len(x) <= _FEW else None  # a line through one point is invisible
    for axes, score in ((left, "accuracy"), (right, "loss")):
        axes.plot(x, _numbers(rows, score), label="test", color="#1f77b4", marker=marker)
        validation = _numbers(rows, f"validation_{score}")
        axes.plot(
            x, validation, label="validation", color="#ff7f0e", linewidth=1, marker=marker, markersize=4
        )
        axes.axvline(best_round - 1, color="grey", linestyle=":", label="kept")
        axes.set_xlabel("rounds of training")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    left.set_title("Accuracy")
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_title("Cross-entropy loss (nats an image)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save_figure(figure, path)


def _plot_epsilon(history: Sequence[Mapping[str, str]], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    spent = [row for row in history if row["epsilon"]]
    x = [int(row["round"]) for row in spent]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.step(x, _numbers(spent, "epsilon"), where="post", marker="o" if len(x) <= _FEW else None)
    axes.set(title="No scores were sent (see summary.json)", xlabel="round", ylabel="epsilon spent, at most")
    axes.set(xlim=(-0.5, max(x) + 0.5), ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def _numbers(rows: Sequence[Mapping[str, str]], column: str) -> list[float]:
    return [float(row[column] or "nan") for row in rows]
