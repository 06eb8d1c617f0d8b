"""Look over a set of images for what is allowed but rarely meant: copies across splits, one image under two labels."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fedtransfer.common.data.images import Image
from fedtransfer.common.support.text import counted

_SHOWN = 3


def examine(images: Sequence[Image], keys: Sequence[bytes | None], splits: Sequence[str]) -> list[str]:
    """Describe, in sentences that name files, what deserves a second look.

    Args:
        images: the images, those of all sites together or of one.
        keys: the content key of each, None for one that cannot be read.
        splits: the split of each.
    """
    copies: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if key is not None:
            copies[key].append(i)
    groups = [rows for rows in copies.values() if len(rows) > 1]
    leaked = [rows for rows in groups if "test" in {splits[i] for i in rows} and len({splits[i] for i in rows}) > 1]
    contradicted = [rows for rows in groups if len({images[i].label for i in rows}) > 1]
    warnings = []
    if leaked:
        warnings.append(
            f"{len(leaked)} test images are among the training or validation images too, so scores are too good: {_name(images, leaked)}"
        )
    if contradicted:
        warnings.append(
            f"{counted(len(contradicted), 'image')} under more than one label, all of which are kept: {_name(images, contradicted)}"
        )
    folded: dict[str, set[str]] = defaultdict(set)
    for label in {image.label for image in images}:
        folded[label.casefold().strip()].add(label)
    for variants in folded.values():
        if len(variants) > 1:
            warnings.append(
                f"classes {', '.join(map(repr, sorted(variants)))} differ only in case or spaces; are they one?"
            )
    return warnings


def examine_sites(splits: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the sites that are too small to be divided: those without validation or without test images."""
    warnings = []
    for split, lost in (
        ("validation", "have no say in which head is kept"),
        ("test", "are scored on the common test set only"),
    ):
        sites = [site for site, mine in splits.items() if split not in mine]
        if sites:
            names = ", ".join(sites[:_SHOWN]) + (f" and {len(sites) - _SHOWN} more" if len(sites) > _SHOWN else "")
            warnings.append(f"{len(sites)} sites have no {split} image and {lost}: {names}")
    return warnings


def _name(images: Sequence[Image], groups: list[list[int]]) -> str:
    shown = [" = ".join(f"{images[i].path} ({images[i].label})" for i in rows[:_SHOWN]) for rows in groups[:_SHOWN]]
    return "; ".join(shown) + (f"; and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")
