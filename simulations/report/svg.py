"""Matplotlib figures as SVG elements that take their colours and letters from the page.

Figures are drawn in colours that stand for roles (ink, rule, first series …). In the SVG each
becomes a CSS variable, with one value on a light page and another on a dark one. Texts stay texts.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

INK, MUTED, RULE, PAPER, ACCENT = "#fe0001", "#fe0002", "#fe0003", "#fe0004", "#fe0005"
SERIES = tuple(f"#fe001{i}" for i in range(1, 8))
MARKERS = "osD^vPX"
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)), (0, (8, 2)), "-")
SHADE = (0x2F / 255, 0x7F / 255, 0xC1 / 255)  # of heat maps: more or less of it, for light and dark pages

_VARIABLES = {
    **dict(zip((INK, MUTED, RULE, PAPER, ACCENT), ("ink", "muted", "rule", "paper", "accent"), strict=True)),
    **{colour: f"s{i}" for i, colour in enumerate(SERIES, 1)},
}
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "fedtransfer", "text.parse_math": False, "font.size": 9,
    "axes.titlesize": 9.5, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "legend.frameon": False, "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": RULE,
    "xtick.color": RULE, "ytick.color": RULE, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": RULE,
    "grid.linewidth": 0.6, "axes.linewidth": 0.8, "axes.axisbelow": True, "lines.linewidth": 1.8,
    "legend.handlelength": 2.6, "lines.solid_capstyle": "round", "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}  # fmt: skip
_NAMESPACE = re.compile(r"\{[^}]*\}")
_COLOUR = re.compile("|".join(_VARIABLES))


@contextmanager
def sheet(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """Give a figure of a size in inches, usually 5 wide, and axes, in the style of the page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def elements(figure: Any, title: str) -> tuple[str, str, str]:
    """Return what all ids of a figure begin with, its viewBox and its SVG elements.

    They are the same every time. A page's figures differ in ``title`` or content, so their ids do.
    """
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    key = "f" + hashlib.sha256((title + file.getvalue()).encode()).hexdigest()[:8]
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if _NAMESPACE.sub("", child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _NAMESPACE.sub("", element.tag)
        element.attrib = {
            _NAMESPACE.sub("", name): _on_page(name, value, key) for name, value in element.attrib.items()
        }
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    return key, root.attrib["viewBox"], body


def _on_page(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name.endswith("href"):
        return f"#{key}-{value[1:]}" if value.startswith("#") else value
    value = value.replace("url(#", f"url(#{key}-")
    return _COLOUR.sub(lambda match: f"var(--{_VARIABLES[match[0]]})", value) if name == "style" else value
