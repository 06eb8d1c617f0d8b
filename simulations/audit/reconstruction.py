"""Images rebuilt from what a site sent, next to the originals and the best guess by class alone.

The targets are images that are the only one of their class at their site. The sum of features that
the server infers (``server_view``) is then that image's feature, and a decoder turns it into an
image: two steps as in MAUI (arXiv 2509.11451). The comparison is the mean of public images of the
class, which needs nothing from the site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fedtransfer.common.errors import UserError
from fedtransfer.simulations.audit.decoder import SIDE, Decoder, Pictures, may_be_known
from fedtransfer.simulations.audit.leaks import Recovered
from fedtransfer.simulations.audit.server_view import Measure
from fedtransfer.simulations.scoring.estimate import Estimate

_SIGMA, _RADIUS = 1.5, 5  # of SSIM's window: 11 x 11 pixels
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class Target(NamedTuple):
    """The only image of its class at its site: site, class number, row at the site."""

    site: str
    label: int
    row: int


@dataclass(frozen=True)
class Originals:
    """Images under attack."""

    targets: tuple[Target, ...]
    images: Pictures  # (m, 32, 32, 3)
    class_means: Pictures  # of public images of the same classes, (m, 32, 32, 3)
    labels: tuple[str, ...]  # names of the classes (m,)

    @classmethod
    def of(
        cls, labels: Mapping[str, NDArray[np.int64]], images: Mapping[str, Pictures], classes: Sequence[str],
        decoder: Decoder,
    ) -> "Originals":  # fmt: skip
        """Find the images that are the only ones of their class at their sites.

        ``labels`` and ``images`` are those of each site's training images, (n,) and (n, 32, 32, 3).

        Raises:
            UserError: CIFAR-10 lacks a class, or the decoder may have seen one of the images.
        """
        if unknown := sorted(set(classes) - decoder.class_means.keys()):
            raise UserError(
                f"images cannot be rebuilt for the class{'es' * (len(unknown) > 1)} {', '.join(unknown)}: "
                f"the decoder knows images of {', '.join(decoder.class_means)}"
            )
        targets = tuple(
            Target(site, int(label), int(np.flatnonzero(y == label)[0]))
            for site, y in sorted(labels.items())
            for label in np.flatnonzero(np.bincount(y, minlength=len(classes)) == 1)
        )
        names = tuple(classes[t.label] for t in targets)
        chosen = _stacked([images[t.site][t.row] for t in targets])
        if overlap := sum(map(may_be_known, chosen)):
            raise UserError(
                f"{overlap} of {len(chosen)} images under attack "
                "may be among those that the decoder was trained on; take images for which "
                "fedtransfer.simulations.audit.decoder.may_be_known is false, such as cifar10-demo"
            )
        return cls(targets, chosen, _stacked([decoder.class_means[name] for name in names]), names)


def _stacked(images: Sequence[Pictures]) -> Pictures:
    return np.array(images, np.uint8).reshape(-1, SIDE, SIDE, 3)


def rebuilt(originals: Originals, read: Mapping[str, Recovered], decoder: Decoder) -> Pictures:
    """Rebuild the images under attack (m, 32, 32, 3) from ``server_view.recovered``."""
    return decoder.images(np.array([read[t.site].directions[t.label] for t in originals.targets], np.float32))


def measures(originals: Originals, images: Pictures) -> list[Measure]:
    """Measure rebuilt images, and class means in their place: PSNR (dB) and SSIM to originals."""
    note = "the only image of a class at its site"
    return [
        Measure(
            "images", f"{name}{of}", Estimate.bootstrapped(similarity(guess, originals.images).tolist()), note
        )
        for guess, of, note in ((images, "", note), (originals.class_means, "_of_class_mean", ""))
        for name, similarity in (("psnr", psnr), ("ssim", ssim))
    ]


def write_examples(
    path: Path, originals: Originals, images: Mapping[str, Pictures], each: int, most: int = 24
) -> None:
    """Write up to ``most`` images under attack, spread evenly over all, to ``reconstructions.npz``.

    ``images`` are "strategy, protection" → rebuilt images (m, 32, 32, 3), in a federation with
    ``each`` training images of every class; 0 where a run has what it has.
    """
    count = len(originals.targets)
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))
    chosen = np.array([pictures[rows] for pictures in images.values()], np.uint8)
    np.savez_compressed(
        path,
        originals=originals.images[rows],
        class_means=originals.class_means[rows],
        labels=np.array(originals.labels, np.str_)[rows],
        rebuilt=chosen.reshape(len(images), len(rows), SIDE, SIDE, 3),
        names=np.array(list(images), np.str_),
        sites=np.array([target.site for target in originals.targets], np.str_)[rows],
        images_per_class=each,
    )


def psnr(images: Pictures, originals: Pictures) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio (n,), dB, of images (n, H, W, 3); infinite if equal."""
    error = np.square(images.astype(np.float64) - originals).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / error)


def ssim(images: Pictures, originals: Pictures) -> NDArray[np.float64]:
    """Return the structural similarity (n,) of images (n, H, W, 3), a mean of channels and windows.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    with their constants and their Gaussian window of 11 x 11 pixels.
    """

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = slice(_RADIUS, -_RADIUS)
        return gaussian_filter(x, _SIGMA, radius=_RADIUS, axes=(1, 2))[:, inside, inside]

    a, b = images.astype(np.float64), originals.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return (similar / ((mean_a**2 + mean_b**2 + _C1) * (variances + _C2))).mean((1, 2, 3))
