"""Warnings about images: copies across splits, one image of two labels, sites without a split."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fedtransfer.common.data.images import Image
from fedtransfer.common.support.text import counted

_MOST_NAMES = 3


def examine(images: Sequence[Image], keys: Sequence[bytes | None], splits: Sequence[str]) -> list[str]:
    """Return warnings about images of one site, or of all together, as sentences that name files.

    ``keys`` are the images' content keys, None for an unreadable one; ``splits`` their splits.
    """
    copies: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if key is not None:
            copies[key].append(i)
    groups = [rows for rows in copies.values() if len(rows) > 1]
    leaked = [
        rows for rows in groups if "test" in {splits[i] for i in rows} and len({splits[i] for i in rows}) > 1
    ]
    contradicted = [rows for rows in groups if len({images[i].label for i in rows}) > 1]
    warnings = []
    if leaked:
        test_images = f"{counted(len(leaked), 'test image')} {'is' if len(leaked) == 1 else 'are'}"
        warnings.append(
            f"{test_images} among the training or validation images too, so scores are too good: "
            f"{_name(images, leaked)}"
        )
    if contradicted:
        warnings.append(
            f"{counted(len(contradicted), 'image')} under more than one label, all of which are kept: "
            f"{_name(images, contradicted)}"
        )
    folded: dict[str, set[str]] = defaultdict(set)
    for label in {image.label for image in images}:
        folded[label.casefold().strip()].add(label)
    for variants in folded.values():
        if len(variants) > 1:
            warnings.append(
                f"classes {', '.join(map(repr, sorted(variants)))} differ only in case or spaces; "
                "are they one?"
            )
    return warnings


def examine_sites(splits: Mapping[str, Sequence[str]]) -> list[str]:
    """Return warnings that name the sites without validation or without test images."""
    warnings = []
    for split, consequence in (
        ("validation", "no say in the choice of the head"),
        ("test", "no score but that on the common test set"),
    ):
        sites = [site for site, present in splits.items() if split not in present]
        if sites:
            names = ", ".join(sites[:_MOST_NAMES])
            names += f" and {len(sites) - _MOST_NAMES} more" if len(sites) > _MOST_NAMES else ""
            have = "has" if len(sites) == 1 else "have"
            warnings.append(
                f"{counted(len(sites), 'site')} {have} no {split} image and {consequence}: {names}"
            )
    return warnings


def _name(images: Sequence[Image], groups: list[list[int]]) -> str:
    names = [
        " = ".join(f"{images[i].path} ({images[i].label})" for i in rows[:_MOST_NAMES])
        for rows in groups[:_MOST_NAMES]
    ]
    return "; ".join(names) + (f"; and {len(groups) - _MOST_NAMES} more" if len(groups) > _MOST_NAMES else "")
