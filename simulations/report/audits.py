"""The sections about an audit: what attacks learn, ROC curves, bounds beside claims, rebuilt images beside their originals."""

import base64
import io
from typing import Any

import numpy as np

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import counted
from fedtransfer.simulations.report import audit_best, audit_curves, audit_tables, audit_words
from fedtransfer.simulations.report.audit_names import SHORT, bounds_of
from fedtransfer.simulations.report.blocks import Gallery, Picture, Section, Table, listed, shown
from fedtransfer.simulations.report.reading import Audit

_COLUMNS = 12  # pictures beside each other
_PICTURES = ("originals", "class_means", "labels", "rebuilt", "names")


def sections(audit: Audit) -> list[Section]:
    """Return what there is to show of an audit."""
    made = [] if audit.about.get("run") else audit_best.glance(audit)
    if curves := audit_curves.roc_figures(audit):
        told = [
            "Who was in the training data? A point says how many members an attack finds, at the price of how many false "
            "alarms. On the dotted line it guesses."
        ]
        if any(row["protection"] for row in audit.roc):
            told.append(SHORT)
        made.append(Section("roc", "Membership: ROC curves", tuple(told), figures=tuple(curves)))
    short = (SHORT,) if any(row["protection"] for row in audit.table) and not audit.roc else ()
    made.append(Section("attacks", "All attacks, in numbers", short, tables=tuple(audit_tables.tables(audit))))
    if bounds := bounds_of(audit):
        made.append(
            Section("bounds", "Bounds from one run beside claims", figures=(audit_curves.bound_figure(bounds),))
        )
    gallery, kept = _gallery(audit) if audit.pictures else (None, 0)
    if gallery and kept:
        text = (
            "Below each original, the mean of public images of its class (what a guess by class alone would give) and what the "
            "attack rebuilt from what the server sees."
        )
        made.append(Section("images", "Images rebuilt", (text, _warning(len(gallery.columns), kept)), gallery=gallery))
    made += _how(audit)
    return made


def _warning(seen: int, kept: int) -> str:
    more = f" with {kept} of them" if kept > seen else ""
    return (
        f"This page shows {counted(seen, 'original training image')}: whoever gets it, or reconstructions.npz{more}, gets "
        "them. fedtransfer audit --no-pictures leaves them out of both."
    )


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
            f"{audit.pictures}: shapes {originals.shape}, {means.shape} and {rebuilt.shape} do not fit together; expected (m, "
            "32, 32, 3) twice and (k, m, 32, 32, 3)"
        )
    shown_labels = [
        ", ".join(shown(name, 24) for name in (label, site) if name)
        for label, site in zip(labels[:_COLUMNS], sites, strict=False)
    ]
    rows = [
        ("original", originals),
        ("mean of its class", means),
        *((shown(name, 60), images) for name, images in zip(names, rebuilt, strict=True)),
    ]
    told = tuple(
        (
            name,
            tuple(
                Picture(_data_uri(image), f"{label}: {name}")
                for image, label in zip(images, shown_labels, strict=False)
            ),
        )
        for name, images in rows
    )
    shortened = f" (the first {_COLUMNS} of {len(originals)})" if len(originals) > _COLUMNS else ""
    few = f", where federations have {each} images a class" if each else ""
    caption = (
        f"Original images, each the only one of its class at its site{few}, and what was rebuilt of them{shortened}"
    )
    return Gallery(caption, tuple(shown_labels), told), len(originals)


def _data_uri(image: Any) -> str:
    from PIL import Image

    file = io.BytesIO()
    pixels = np.clip(np.nan_to_num(np.asarray(image, np.float64)), 0, 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _how(audit: Audit) -> list[Section]:
    about = audit.about
    backbone = about.get("backbone") or {}
    rows = tuple((shown(name), shown(value, 200)) for name, value in backbone.items())
    command = about.get("command")
    made = [
        Section(
            "how",
            "How it was done, and how to repeat it",
            tuple(audit_words.how(audit)),
            code=(shown(command, 2000),) if command else (),
            tables=(Table("Backbone", ("", ""), rows),) if rows else (),
        )
    ]
    if config := about.get("config"):
        settings = tuple((shown(name), shown(value, 300)) for name, value in config.items())
        differing = about.get("federations") or []
        caption = "Settings that all federations share" if differing else "Settings"
        tables = [Table(caption, ("setting", "value"), settings, texts=True)]
        if differing:
            cases = tuple(tuple(shown(value, 40) for value in each.values()) for each in differing)
            tables.insert(0, Table("What differs among them", tuple(map(shown, differing[0])), cases, texts=True))
        made.append(Section("configuration", "Configuration", tables=tuple(tables), folded=True))
    return made
