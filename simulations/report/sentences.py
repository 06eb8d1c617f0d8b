"""The sentences of the report. They are in ``templates/*.txt``, so that English can be edited without Python.

A macro writes paragraphs, separated by blank lines. Other line breaks count as spaces, and there is
none before punctuation.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.schedule import layers
from fedtransfer.common.methods import METHODS
from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report import blocks
from fedtransfer.simulations.report.blocks import Caption, Fact, Table, printable


@cache
def environment() -> Environment:
    """Return the environment of all templates, which compiles each once."""
    environment = Environment(
        loader=PackageLoader("fedtransfer.simulations.report"),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= _FILTERS
    return environment


def paragraphs(template: str, macro: str, *facts: Any, **named: Any) -> tuple[str, ...]:
    """Return the paragraphs that a macro writes about facts: ``paragraphs("privacy", "sentences", run)``."""
    text = str(getattr(environment().get_template(f"{template}.txt").module, macro)(*facts, **named))
    return tuple(joined for part in re.split(r"\n\s*\n", text) if (joined := _joined(part)))


def sentence(template: str, macro: str, *facts: Any, **named: Any) -> str:
    """Return what a macro writes as one paragraph, "" for nothing."""
    return _joined("\n".join(paragraphs(template, macro, *facts, **named)))


def _joined(text: str) -> str:
    text = re.sub(r" ([.,;:)])", r"\1", re.sub(r"[ \n]+", " ", text).strip(" ")).replace("( ", "(")
    return re.sub(r"(?<=\d) (?=%)|(?<=[εδ]) (?==)|(?<=[εδ] =) ", "\u00a0", text)  # no line ends within these


def fact(template: str, macro: str, *facts: Any, **named: Any) -> Fact:
    """Return a fact, of which a macro writes the question, the number and then the sentences."""
    question, number, *sentences = paragraphs(template, macro, *facts, **named)
    return Fact(question, number, tuple(sentences))


def caption(macro: str, *facts: Any, **named: Any) -> Caption:
    """Return the caption of a figure: title, description, and a note if the macro writes one."""
    return Caption(*paragraphs("figures", macro, *facts, **named))


def table(macro: str, rows: Iterable[Sequence[str]], *facts: Any, **looks: Any) -> Table:
    """Return a table of which a macro writes the caption, the columns between bars, and a note if there is one."""
    caption, columns, *note = paragraphs("tables", macro, *facts)
    return Table(caption, [column.strip() for column in columns.split("|")], [*rows], " ".join(note), **looks)


def data_name(config: RunConfig) -> str:
    """Return the name of the data: of a path its last part."""
    return printable(Path(config.data).name or config.data, 60)


def _span(values: Iterable[float], unit: str) -> str:
    low, high = min(values := list(values)), max(values)
    if unit == "whole_percent":
        return blocks.span(f"{100 * low:.0f}", f"{100 * high:.0f}") + "\u00a0%"
    return blocks.span(size(low), size(high)) if unit == "size" else blocks.span(f"{low:,}", f"{high:,}")


def _trained_layers(configs: Sequence[RunConfig]) -> SimpleNamespace:
    """Return the layers from which any config trains the backbone, and whether any leaves it frozen."""
    deepest = [layers(config)[-1] for config in configs]
    above = list(dict.fromkeys(layer for layer in deepest if layer != "head"))
    return SimpleNamespace(above=above, some_frozen="head" in deepest)


_FILTERS: dict[str, Callable[..., Any]] = {
    "counted": counted,
    "size": size,
    "name": printable,
    "percent": blocks.percent,
    "number": blocks.number,
    "decimals": blocks.decimals,
    "epsilon": blocks.epsilon,
    "power": blocks.power,
    "span": _span,
    "listed": lambda names: blocks.listed(list(names)),
    "ranges": blocks.numbers_in_words,
    "method": lambda strategy: METHODS[strategy].title if strategy in METHODS else strategy,
    "data_name": data_name,
    "trained_layers": _trained_layers,
    "drawing": Markup,
}
