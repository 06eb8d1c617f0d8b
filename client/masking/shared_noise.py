"""``--noise shared``: a site adds its share of the noise to whole numbers before they are masked.

Kairouz, Liu and Steinke 2021 (arXiv 2102.06387): the sum over all sites has the noise of all
shares. That is enough if ``config.honest_sites`` of the sites are honest. One share alone protects
little.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.masks.vector import Whole, places
from fedtransfer.common.privacy.closed_form import sensitivity as sums_sensitivity
from fedtransfer.common.privacy.discrete import integer_sensitivity, rounded, share
from fedtransfer.common.privacy.gaussian import clipped
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.wire.protocol import Answer, Gather, Request, Sums, Task, Update


def with_share(
    answer: Answer, request: Request, config: RunConfig, rng: np.random.Generator
) -> Mapping[str, Sequence[Whole]]:
    """Return field → whole numbers with a share of the noise, to replace the arrays of an answer.

    It is empty without shared noise, and for other answers than an update (with ``--dp image`` of
    one step) or sums of clipped features. ``rng`` is a secret generator.

    Raises:
        SiteError: a number is too large to be rounded, or the noise too small or too large for
            whole numbers.
    """
    promised = guarantee(config) if config.noise == "shared" else None
    if promised is None or not isinstance(answer, Update | Sums):
        return {}
    name, arrays = ("total", answer.total) if isinstance(answer, Update) else ("arrays", answer.arrays)
    if config.dp == "site":
        arrays = clipped(arrays, config.clip)
    scale, size = 2.0 ** places(request), sum(array.size for array in arrays)
    try:
        whole = rounded(arrays, scale, rng)
        sensitivity = integer_sensitivity(_sensitivity(request, config), scale, size)
        noise = share(size, sensitivity, promised.noise_multiplier, config.honest_sites, rng)
    except ValueError as error:
        raise SiteError(
            "beyond-bound", f"this site cannot add noise to its answer as whole numbers: {error}"
        ) from None
    parts = np.split(noise, np.cumsum([array.size for array in arrays])[:-1])
    return {name: [array + part.reshape(array.shape) for array, part in zip(whole, parts, strict=True)]}


def _sensitivity(request: Request, config: RunConfig) -> float:
    """Return the largest norm by which a site, or an image, changes the arrays of an answer."""
    if config.dp == "site":
        return config.clip
    if isinstance(request, Task):  # one step along the sum of clipped gradients over the batch size
        return config.learning_rate * request.rate * config.clip / config.batch_size
    assert isinstance(request, Gather)
    return sums_sensitivity(request.what, config.clip)
