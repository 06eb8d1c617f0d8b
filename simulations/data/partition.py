"""Partitions of one data set among simulated sites: IID, Dirichlet or pathological.

Images of a supplied test split are divided in the same proportions as the others, so that a site's
test images resemble its training images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image
from fedtransfer.common.errors import UserError
from fedtransfer.common.seeds import generator

Labels = NDArray[np.int64]
Shares = NDArray[np.float64]  # (C, K): the share of class c that goes to site k; rows sum to 1
_TRIES = 1000


def partition(images: Sequence[Image], config: RunConfig) -> list[list[Image]]:
    """Give each image to one of ``config.sites`` sites.

    Raises:
        UserError: there are too few images for the number of sites.
    """
    classes = {name: i for i, name in enumerate(sorted({image.label for image in images}))}
    labels = np.array([classes[image.label] for image in images], np.int64)
    test = np.array([image.split == "test" for image in images])
    rng, sites, least = generator(config.seed, "partition"), config.sites, config.min_images
    if (given := (~test).sum()) < sites * least:
        few = f"{given} images for {sites} sites: too few for {least} each"
        raise UserError(f"{few}; lower --sites or --min-images")
    for _ in range(1 if config.partition == "iid" else _TRIES):
        shares = _shares(config, len(classes), rng)
        site = np.empty(len(images), np.int64)
        for part in (test, ~test):
            if shares is None:  # sites differ by one image at most
                site[part] = rng.permutation(np.arange(part.sum()) % sites)
            else:
                site[part] = _divide(labels[part], shares, rng)
        if np.bincount(site[~test], minlength=sites).min() >= least:
            ends = np.cumsum(np.bincount(site, minlength=sites))[:-1]
            members = np.split(np.argsort(site, kind="stable"), ends)
            return [[images[i] for i in rows.tolist()] for rows in members]
    raise UserError(
        f"no {config.partition} partition with at least {least} images at each of {sites} sites"
        f" in {_TRIES} draws; lower --sites or --min-images, or raise --alpha or --classes-per-site"
    )


def _shares(config: RunConfig, classes: int, rng: np.random.Generator) -> Shares | None:
    """Draw the shares of a partition: Dirichlet(alpha) as by Hsu et al. 2019, arXiv 1909.06335."""
    if config.partition == "dirichlet":
        return rng.dirichlet(np.full(config.sites, config.alpha), size=classes)
    if config.partition == "pathological":
        return _pathological_shares(classes, config.sites, config.classes_per_site, rng)
    return None


def _pathological_shares(classes: int, sites: int, each: int, rng: np.random.Generator) -> Shares:
    """Return shares with few classes a site (McMahan et al. 2017, arXiv 1602.05629).

    Each site has ``each`` classes, and classes are at nearly equal numbers of sites; the sites of a
    class have equal shares of it.
    """
    if each > classes:
        raise UserError(f"--classes-per-site: got {each}, but the data have {classes} classes")
    if each * sites < classes:
        few = f"{sites} sites with {each} classes each cannot hold {classes} classes"
        raise UserError(f"{few}; raise --sites or --classes-per-site")
    has = np.zeros((classes, sites))
    for site in rng.permutation(sites):
        # The least used classes so far, ties broken at random.
        chosen = np.lexsort((rng.random(classes), has.sum(1)))[:each]
        has[chosen, site] = 1
    return has / has.sum(1, keepdims=True)


def _divide(labels: Labels, shares: Shares, rng: np.random.Generator) -> Labels:
    """Return the site (n,) of each image: each class is shuffled and cut by its shares."""
    site = np.empty(len(labels), np.int64)
    for c, share in enumerate(shares):
        members = rng.permutation(np.flatnonzero(labels == c))
        cuts = np.round(np.cumsum(share)[:-1] * len(members)).astype(int)
        site[members] = np.searchsorted(cuts, np.arange(len(members)), side="right")
    return site
