"""The page about an audit: results of attacks, ROC curves, bounds and claims, rebuilt images."""

import base64
import io
from typing import Any

import numpy as np

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.report import audit_answer, audit_best, audit_curves, audit_tables
from fedtransfer.simulations.report.audit_names import bounds_of
from fedtransfer.simulations.report.blocks import Gallery, Page, Picture, Section, Table, listed, printable
from fedtransfer.simulations.report.reading import Audit
from fedtransfer.simulations.report.sentences import paragraphs, sentence

_COLUMNS = 12  # most pictures in a row
_PICTURES = ("originals", "class_means", "labels", "rebuilt", "names")


def page(audit: Audit, name: str) -> Page:
    """Return the page: the answer, and a section for each kind of finding."""
    title, lead = audit_answer.title(audit, name), audit_answer.lead(audit)
    return Page(title, lead, audit_answer.answer(audit), tuple(_sections(audit)))


def _sections(audit: Audit) -> list[Section]:
    parts = [] if audit.about.get("run") else audit_best.glance(audit)
    if curves := audit_curves.roc_figures(audit):
        text = paragraphs("audit", "roc", any(row["protection"] for row in audit.roc))
        parts.append(Section("roc", "Membership: ROC curves", text, figures=tuple(curves)))
    short = any(row["protection"] for row in audit.table) and not audit.roc
    text = paragraphs("audit", "protections") if short else ()
    parts.append(Section("attacks", "All attacks, in numbers", text, tables=tuple(audit_tables.tables(audit))))
    if bounds := bounds_of(audit):
        figure = audit_curves.bound_figure(bounds)
        parts.append(Section("bounds", "Bounds from one run and claims", figures=(figure,)))
    gallery, saved = _gallery(audit) if audit.pictures else (None, 0)
    if gallery and saved:
        text = paragraphs("audit", "images", len(gallery.columns), saved)
        parts.append(Section("images", "Images rebuilt", text, gallery=gallery))
    return [*parts, *_how(audit)]


def _gallery(audit: Audit) -> tuple[Gallery, int]:
    """Return the first pictures, and how many there are."""
    try:
        with np.load(audit.pictures, allow_pickle=False) as archive:  # type: ignore[arg-type]
            originals, means, labels, rebuilt, names = (archive[key] for key in _PICTURES)
            # Older audits do not say whose the images are.
            sites, each = archive.get("sites", [""] * len(labels)), archive.get("images_per_class", 0)
        ok = (
            originals.shape == means.shape
            and rebuilt.shape == (len(names), *originals.shape)
            and len(labels) == len(sites) == len(originals)
            and originals.ndim == 4
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{audit.pictures}: cannot be read ({error}); expected {listed(_PICTURES)}, as fedtransfer audit writes them"
        ) from None
    if not ok:
        raise UserError(
            f"{audit.pictures}: shapes {originals.shape}, {means.shape} and {rebuilt.shape} do not match; expected (m, "
            "32, 32, 3) twice and (k, m, 32, 32, 3)"
        )
    columns = tuple(
        ", ".join(printable(name, 24) for name in pair if name) for pair in zip(labels[:_COLUMNS], sites, strict=False)
    )
    kinds = {"original": originals, "mean of its class": means}
    kinds |= {printable(name, 60): images for name, images in zip(names, rebuilt, strict=True)}
    rows = tuple(
        (
            kind,
            tuple(Picture(_data_uri(image), f"{label}: {kind}") for image, label in zip(images, columns, strict=False)),
        )
        for kind, images in kinds.items()
    )
    caption = sentence("audit", "gallery", len(columns), len(originals), int(each))
    return Gallery(caption, columns, rows), len(originals)


def _data_uri(image: Any) -> str:
    from PIL import Image

    file = io.BytesIO()
    pixels = np.clip(np.nan_to_num(np.asarray(image, np.float64)), 0, 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _how(audit: Audit) -> list[Section]:
    about = audit.about
    backbone = about.get("backbone") or {}
    rows = tuple((printable(name), printable(value, 200)) for name, value in backbone.items())
    code = (printable(about["command"], 2000),) if about.get("command") else ()
    tables = [Table("Backbone", ("", ""), rows)] if rows else []
    title = "How it was done, and how to repeat it"
    parts = [Section("how", title, audit_answer.how(audit), code=code, tables=tuple(tables))]
    if config := about.get("config"):
        settings = tuple((printable(name), printable(value, 300)) for name, value in config.items())
        differing = about.get("federations") or []
        caption = "Settings that all federations share" if differing else "Settings"
        tables = [Table(caption, ("setting", "value"), settings, texts=True)]
        if differing:
            cases = tuple(tuple(printable(value, 40) for value in each.values()) for each in differing)
            tables.insert(0, Table("Settings that differ", tuple(map(printable, differing[0])), cases, texts=True))
        parts.append(Section("configuration", "Configuration", tables=tuple(tables), folded=True))
    return parts
