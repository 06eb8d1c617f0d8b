"""Updates far larger than the others of their round: refused, so that no site owns the mean.

An update is as long as the steps that make it. The first rounds of a run make longer ones; a site
with more images makes more of them, and one with images of rare classes, which ``--class-balance``
weights, longer ones. The bound follows all of these.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.config.config import RunConfig
from fedtransfer.server.rounds.progress import class_weights
from fedtransfer.server.sites.admission import Answers
from fedtransfer.server.sites.bounds import norm_of
from fedtransfer.server.sites.federation import Federation

log = logging.getLogger(__name__)

TIMES = 10.0  # the median: the largest update that is let in, of a site with as many steps as others
LEAST_SITES = 3  # of which one cannot move the median beyond the others' updates


def reaches(federation: Federation, config: RunConfig) -> dict[str, float]:
    """Return site → its steps in an epoch, each by the mean weight of the site's images."""
    images = {site: counts[:, 0] for site, counts in federation.images.items() if counts[:, 0].any()}
    weights: NDArray[np.float32] = np.ones(len(federation.classes), np.float32)
    if config.class_balance:
        weights = class_weights(federation.training_images, config.class_balance)
    return {
        site: -(-counts.sum() // config.batch_size) * float(counts @ weights / counts.sum())
        for site, counts in images.items()
    }


def without_outliers(
    answers: Answers, config: RunConfig, reach: Mapping[str, float], largest: float
) -> tuple[Answers, float]:
    """Refuse updates beyond ``TIMES`` the median norm; for a longer reach, as many times more.

    With ``--max-update-norm`` that is the bound. Under masks nobody sees a single update; under
    differential privacy of sites the server clips them, under that of images it does not know
    whose noisy steps were more.

    Args:
        answers: the updates of a round.
        config: the run's settings.
        reach: of the sites, as ``reaches`` gives them.
        largest: the largest median norm of the rounds before, 0 for none.

    Returns:
        The answers, and the largest median norm so far.
    """
    updates: dict[str, Any] = answers.admitted
    if config.hides_counts or config.max_update_norm or not updates:
        return answers, largest
    norms = {site: norm_of(update, config.weights_of_sites) for site, update in updates.items()}
    if len(norms) >= LEAST_SITES:
        largest = max(largest, float(np.median(list(norms.values()))))
    middle = float(np.median([reach[site] for site in updates]))
    bounds = {site: TIMES * largest * min(max(1.0, reach[site] / middle), TIMES) for site in updates}
    refused = {
        site: f"sent an update of norm {norms[site]:.4g}, above {bounds[site]:.4g}, which is {TIMES:g} times "
        "the median of a round, and more for more steps (--max-update-norm sets another bound)"
        for site in updates
        if largest and norms[site] > bounds[site]
    }
    for site, why in refused.items():
        log.warning("round %d: %s is left out: %s", updates[site].round, site, why)
    admitted = {site: update for site, update in updates.items() if site not in refused}
    return replace(answers, admitted=admitted, refused={**answers.refused, **refused}), largest
