"""The page about an audit: results of attacks, ROC curves, bounds and claims, rebuilt images."""

import base64
import io
from typing import Any

import numpy as np

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.report import audit_answer
from fedtransfer.simulations.report.audit_curves import bound_figure, roc_figures
from fedtransfer.simulations.report.audit_names import bounds_of, values_of
from fedtransfer.simulations.report.audit_tables import tables
from fedtransfer.simulations.report.blocks import Gallery, Page, Section, Table, listed, printable
from fedtransfer.simulations.report.reading import Audit
from fedtransfer.simulations.report.sentences import paragraphs, sentence

_COLUMNS = 12  # most pictures in a row
_PICTURES = ("originals", "class_means", "labels", "rebuilt", "names")


def page(audit: Audit) -> Page:
    """Lay out the page: the answer, and a section for each kind of finding."""
    title = sentence("audit", "title", audit.about.get("run"), audit.name, audit.folder.name == "audit")
    sections = [*_found(audit), *_images(audit), *_how(audit)]
    return Page(title, audit_answer.lead(audit), audit_answer.answer(audit), sections)


def _found(audit: Audit) -> list[Section]:
    values = values_of(audit)
    parts = [] if audit.about.get("run") else [audit_answer.glance(audit)]
    if curves := roc_figures(audit, values):
        text = paragraphs("audit", "roc", any(row["protection"] for row in audit.roc))
        parts.append(Section("roc", "Membership: ROC curves", text, figures=curves))
    short = any(value.protection for value in values) and not audit.roc
    protections = paragraphs("audit", "protections") if short else ()
    parts.append(Section("attacks", "All attacks, in numbers", protections, tables=tables(values)))
    if bounds := bounds_of(values):
        parts.append(Section("bounds", "Bounds from one run and claims", figures=[bound_figure(bounds)]))
    return parts


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
            f"{audit.pictures}: cannot be read ({error}); expected {listed(_PICTURES)}, as fedtransfer audit writes "
            "them"
        ) from None
    if not ok:
        raise UserError(
            f"{audit.pictures}: shapes {originals.shape}, {means.shape} and {rebuilt.shape} do not match; expected "
            "(m, 32, 32, 3) twice and (k, m, 32, 32, 3)"
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
    used = [Table("Backbone", ("", ""), rows)] if rows else []
    title = "How it was done, and how to repeat it"
    parts = [Section("how", title, audit_answer.how(audit), code=code, tables=used)]
    if config := about.get("config"):
        differing = about.get("federations") or []
        caption = "Settings that all federations share" if differing else "Settings"
        settings = [(printable(name), printable(value, 300)) for name, value in config.items()]
        shared = [Table(caption, ("setting", "value"), settings, texts=True)]
        if differing:
            cases = [[printable(value, 40) for value in each.values()] for each in differing]
            shared.insert(0, Table("Settings that differ", [*map(printable, differing[0])], cases, texts=True))
        parts.append(Section("configuration", "Configuration", tables=shared, folded=True))
    return parts
