"""The sentences of the report, in ``templates/*.txt``: English can be edited without Python.

A macro writes paragraphs, separated by blank lines. Other line breaks count as spaces, and there is
none before punctuation.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.schedule import layers
from fedtransfer.common.methods import METHODS
from fedtransfer.common.support.text import counted, size
from fedtransfer.simulations.report import texts
from fedtransfer.simulations.report.blocks import Caption, Fact, Table
from fedtransfer.simulations.report.texts import printable


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


def paragraphs(template: str, macro: str, *facts: Any) -> tuple[str, ...]:
    """Return a macro's paragraphs about facts: ``paragraphs("privacy", "sentences", run)``."""
    text = str(getattr(environment().get_template(f"{template}.txt").module, macro)(*facts))
    return tuple(joined for part in re.split(r"\n\s*\n", text) if (joined := _joined(part)))


def sentence(template: str, macro: str, *facts: Any) -> str:
    """Return what a macro writes as one paragraph, "" for nothing."""
    return _joined("\n".join(paragraphs(template, macro, *facts)))


def _joined(text: str) -> str:
    text = re.sub(r" ([.,;:)])", r"\1", re.sub(r"[ \n]+", " ", text).strip(" ")).replace("( ", "(")
    return re.sub(r"(?<=\d) (?=%)|(?<=[εδ]) (?==)|(?<=[εδ] =) ", "\u00a0", text)  # no line ends within these


def fact(template: str, macro: str, *facts: Any) -> Fact:
    """Return a fact, of which a macro writes the question, the number and then the sentences."""
    question, number, *sentences = paragraphs(template, macro, *facts)
    return Fact(question, number, tuple(sentences))


def caption(macro: str, *facts: Any) -> Caption:
    """Return the caption of a figure: title, description, and a note if the macro writes one."""
    return Caption(*paragraphs("figures", macro, *facts))


def table(macro: str, rows: Iterable[Sequence[str]], *facts: Any, **looks: Any) -> Table:
    """Return a table, of which a macro writes caption, columns between bars, and perhaps a note."""
    caption, columns, *note = paragraphs("tables", macro, *facts)
    return Table(caption, [column.strip() for column in columns.split("|")], [*rows], " ".join(note), **looks)


def _span(values: Iterable[float], unit: str) -> str:
    low, high = min(values := list(values)), max(values)
    if unit == "whole_percent":
        return texts.span(f"{100 * low:.0f}", f"{100 * high:.0f}") + "\u00a0%"
    return texts.span(size(low), size(high)) if unit == "size" else texts.span(f"{low:,}", f"{high:,}")


def _trained_layers(configs: Sequence[RunConfig]) -> tuple[list[str], bool]:
    """Return the layers from which configs train the backbone, and whether any leaves it frozen."""
    deepest = [layers(config)[-1] for config in configs]
    return list(dict.fromkeys(layer for layer in deepest if layer != "head")), "head" in deepest


_NUMBERS = (counted, size, texts.percent, texts.number, texts.decimals, texts.epsilon, texts.power)
_FILTERS: dict[str, Callable[..., Any]] = {
    **{function.__name__: function for function in _NUMBERS},
    "name": printable,
    "backbone": texts.backbone,
    "span": _span,
    "listed": lambda names: texts.listed(list(names)),
    "ranges": texts.numbers_in_words,
    "method": lambda strategy: METHODS[strategy].title if strategy in METHODS else strategy,
    "data_name": lambda config: printable(Path(config.data).name or config.data, 60),
    "trained_layers": _trained_layers,
    "drawing": Markup,
}
