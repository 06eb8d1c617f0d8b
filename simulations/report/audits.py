"""The page about an audit: results of attacks, ROC curves, bounds and claims, rebuilt images."""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.report import audit_answer, audit_names
from fedtransfer.simulations.report.audit_curves import bound_figure, roc_figures
from fedtransfer.simulations.report.audit_names import Value
from fedtransfer.simulations.report.blocks import Gallery, Page, Section, Table
from fedtransfer.simulations.report.reading import Audit
from fedtransfer.simulations.report.sentences import paragraphs, sentence, table
from fedtransfer.simulations.report.texts import NONE, listed, names, printable

_NUMBER = re.compile(r"\d+(\.\d+)?")
_ROWS = 100
_TOGETHER = ("membership", "one run")  # families in which protections with the same numbers share a row
_Key = tuple[str, str, str, str]  # strategy, ε, images a class, and attack where there are several
_COLUMNS = 12  # most pictures in a row
_PICTURES = ("originals", "class_means", "labels", "rebuilt", "names")


def page(audit: Audit) -> Page:
    """Lay out the page: the answer, and a section for each kind of finding."""
    values = audit_names.values_of(audit)
    parts = [] if audit.about.get("run") else [audit_answer.glance(audit)]
    if curves := roc_figures(audit, values):
        text = paragraphs("audit", "roc", any(row["protection"] for row in audit.roc))
        parts.append(Section("roc", "Membership: ROC curves", text, figures=curves))
    short = any(value.protection for value in values) and not audit.roc
    protections = paragraphs("audit", "protections") if short else ()
    parts.append(Section("attacks", "All attacks, in numbers", protections, tables=_tables(values)))
    if bounds := audit_names.bounds_of(values):
        parts.append(Section("bounds", "Bounds from one run and claims", figures=[bound_figure(bounds)]))
    title = sentence("audit", "title", audit.about.get("run"), audit.name, audit.folder.name == "audit")
    sections = [*parts, *_images(audit), *_how(audit)]
    return Page(title, audit_answer.lead(audit), audit_answer.answer(audit), sections)


def _tables(values: Sequence[Value]) -> list[Table]:
    """Lay out each family of attacks: a row a case, a column a measure."""
    families: dict[str, dict[tuple[_Key, str], dict[str, Value]]] = {}
    for value in values:
        family = "membership" if value.measure in audit_names.MEMBERSHIP else value.attack
        # A bound belongs to the mechanism: one stands for all numbers of images.
        images = "" if family == "one run" else value.images
        key = value.strategy, value.epsilon, images, value.attack if family == "membership" else ""
        case = families.setdefault(family, {}).setdefault((key, value.protection), {})
        case.setdefault(value.measure, value)
    return [_family(name, cases) for name, cases in families.items()]


def _family(name: str, cases: Mapping[tuple[_Key, str], Mapping[str, Value]]) -> Table:
    values, guesses = [value for case in cases.values() for value in case.values()], names("guesses")
    measures = {value.measure: value.name for value in values}
    head, chances = ["strategy", "protection", "images a class", "attack"], []
    for measure, heading in measures.items():
        head += [heading, guesses[measure]] if measure in guesses else [heading]
        by_chance = {value.guess for value in values if value.measure == measure}
        if measure not in guesses and len(by_chance) == 1 and by_chance != {""}:
            chances.append(f"{heading} {by_chance.pop()}")
    cells: dict[tuple[_Key, str], tuple[str, ...]] = {}
    for key, case in cases.items():
        row: tuple[str, ...] = ()
        for measure in measures:
            texts = (case[measure].text, case[measure].guess) if measure in case else ("", "")
            row += texts if measure in guesses else texts[:1]
        counts = [f"{int(value.count):,}" for value in case.values() if value.count > 0]
        cells[key] = *row, " / ".join(counts if len(set(counts)) > 1 else counts[:1]) or NONE
    apart = [(key, [protection], row) for (key, protection), row in cells.items()]
    body = []
    for about, protections, row in audit_names.merged(cells) if name in _TOGETHER else apart:
        strategy, epsilon, images, attack = about
        protection = audit_names.with_epsilon(", ".join(protections), epsilon) if any(protections) else ""
        body.append([printable(strategy, 40), protection, images, printable(attack, 40), *row])
    heading = names("families_of_attacks").get(name, printable(name, 40))
    numbers = Table(heading, [*head, names("counted").get(name, "of")], body).compact(NONE)
    everything = [cell for line in numbers.rows for cell in line]
    legend = any(" to " in cell for cell in everything), NONE in everything
    note = sentence("audit", "table_note", *legend, chances, _remarks(values))
    return replace(numbers, note=note).shortened(_ROWS, "table.csv")


def _remarks(values: Iterable[Value]) -> list[str]:
    """Return the notes of rows, each once, without notes whose numbers differ between rows."""
    variants: dict[str, dict[str, dict[str, None]]] = {}  # note without its numbers → note → measures
    for value in values:
        if value.note:
            same = variants.setdefault(_NUMBER.sub("…", value.note), {})
            same.setdefault(value.note, {})[value.name] = None
    noted = {name for same in variants.values() for measures in same.values() for name in measures}
    constant = [pair for same in variants.values() if len(same) == 1 for pair in same.items()]
    remarks = []
    for note, measures in constant[:8]:
        about = "" if set(measures) == noted else f"{listed([*measures])}: "
        remarks.append(f"{about}{printable(note, 240)}.")
    return [remark[0].upper() + remark[1:] for remark in remarks]


def _images(audit: Audit) -> list[Section]:
    """Return a section with the first pictures, if any were saved."""
    if not audit.pictures:
        return []
    try:
        with np.load(audit.pictures, allow_pickle=False) as archive:
            originals, means, labels, rebuilt, names = (archive[key] for key in _PICTURES)
            # Older audits do not say whose the images are.
            sites, each = archive.get("sites", [""] * len(labels)), archive.get("images_per_class", 0)
        ok = originals.shape == means.shape and rebuilt.shape == (len(names), *originals.shape)
        ok = ok and len(labels) == len(sites) == len(originals) and originals.ndim == 4
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{audit.pictures}: cannot be read ({error}); expected {listed(_PICTURES)}, as fedtransfer audit "
            "writes them"
        ) from None
    if not ok:
        raise UserError(
            f"{audit.pictures}: shapes {originals.shape}, {means.shape} and {rebuilt.shape} do not match; "
            "expected (m, 32, 32, 3) twice and (k, m, 32, 32, 3)"
        )
    if not (saved := len(originals)):
        return []
    pairs = zip(labels[:_COLUMNS], sites, strict=False)
    columns = [", ".join(printable(name, 24) for name in pair if name) for pair in pairs]
    kinds = {"original": originals, "mean of its class": means}
    kinds |= {printable(name, 60): images for name, images in zip(names, rebuilt, strict=True)}
    rows = [(kind, [_data_uri(image) for image in images[:_COLUMNS]]) for kind, images in kinds.items()]
    gallery = Gallery(sentence("audit", "gallery", len(columns), saved, int(each)), columns, rows)
    text = paragraphs("audit", "images", len(columns), saved)
    return [Section("images", "Images rebuilt", text, gallery=gallery)]


def _data_uri(image: Any) -> str:
    from PIL import Image

    file = io.BytesIO()
    pixels = np.clip(np.nan_to_num(np.asarray(image, np.float64)), 0, 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _how(audit: Audit) -> list[Section]:
    about = audit.about
    code = [printable(about["command"], 2000)] if about.get("command") else []
    rows = [(printable(name), printable(value, 200)) for name, value in (about.get("backbone") or {}).items()]
    used = [table("backbone", rows)] if rows else []
    title = "How it was done, and how to repeat it"
    parts = [Section("how", title, audit_answer.how(audit), code=code, tables=used)]
    if config := about.get("config"):
        differing = about.get("federations") or []
        caption = "Settings that all federations share" if differing else "Settings"
        settings = [(printable(name), printable(value, 300)) for name, value in config.items()]
        shared = [Table(caption, ("setting", "value"), settings, texts=True)]
        if differing:
            cases = [[printable(value, 40) for value in each.values()] for each in differing]
            columns = [*map(printable, differing[0])]
            shared.insert(0, Table("Settings that differ", columns, cases, texts=True))
        parts.append(Section("configuration", "Configuration", tables=shared, folded=True))
    return parts
