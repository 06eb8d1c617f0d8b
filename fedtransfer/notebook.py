"""A run in a notebook: numbers and learning curves, for light and dark pages."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

import numpy as np

from fedtransfer.table import Table

WIDTH, HEIGHT, EDGE = 360, 140, 34


def run_page(title: str, facts: Mapping[str, str], history: Table) -> str:
    """Return a small HTML table and two curves as inline SVG, which load nothing else.

    Args:
        title: the heading.
        facts: name → text, the rows of the table.
        history: rounds, with phase, accuracy and validation loss.
    """
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in facts.items()
    )
    scored = history[np.isin(history["phase"], ("train", "score"))]
    drawings = "".join(
        _curve(name.replace("_", " "), scored["round"].tolist(), scored[name].tolist())
        for name in ("accuracy", "validation_loss")
    )
    flow = "display:flex;flex-wrap:wrap;gap:1em"
    return f"<div><b>{escape(title)}</b><div style='{flow}'><table>{rows}</table>{drawings}</div></div>"


def _curve(name: str, x: Sequence[float], y: Sequence[float]) -> str:
    """Return a curve as SVG, without rounds that have no value; "" for fewer than two points."""
    points = [(a, float(b)) for a, b in zip(x, y, strict=True) if isinstance(b, float | int) and isfinite(b)]
    if len(points) < 2:
        return ""
    left, right, low, high = points[0][0], points[-1][0], min(b for _, b in points), max(b for _, b in points)
    across, up = (WIDTH - EDGE - 6) / (right - left), (HEIGHT - 2 * 18) / (high - low or 1)
    path = " ".join(f"{EDGE + (a - left) * across:.1f},{HEIGHT - 18 - (b - low) * up:.1f}" for a, b in points)
    labels = "".join(
        f"<text x='{left_edge}' y='{height}' text-anchor='{anchor}'>{text}</text>"
        for left_edge, height, anchor, text in (
            (EDGE, 11, "start", name), (EDGE - 4, 24, "end", f"{high:.2f}"), (EDGE - 4, HEIGHT - 18, "end", f"{low:.2f}"),
            (EDGE, HEIGHT - 4, "start", f"round {left:g}"), (WIDTH - 6, HEIGHT - 4, "end", f"{right:g}"),
        )
    )  # fmt: skip
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='{name} by round' fill='currentColor' "
        f"font-size='10' font-family='sans-serif'>{labels}<polyline points='{path}' fill='none' stroke='#2f7fc1' "
        "stroke-width='2'/></svg>"
    )
