"""Shares of noise on whole numbers: how large they are, and that nothing else is changed."""

from dataclasses import replace

import numpy as np
import pytest
from masked_sites import CLASSES, WIDTH, masked_config, update

from fedtransfer.client.masking.shared_noise import with_share
from fedtransfer.common.errors import SiteError
from fedtransfer.common.masks.vector import PLACES, decode, encode
from fedtransfer.common.privacy.discrete import integer_sensitivity
from fedtransfer.common.privacy.gaussian import norm
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.wire.protocol import Gather, Sums, Task

SIZE = CLASSES * (WIDTH + 1)
SITE = {
    "dp": "site",
    "noise": "shared",
    "noise_multiplier": 2.0,
    "weighting": "uniform",
    "min_sites": 5,
    "clip": 0.25,
}
IMAGE = {
    "dp": "image", "noise": "shared", "noise_multiplier": 2.0, "clip": 0.5, "weighting": "uniform",
    "min_sites": 5, "colluding_sites": 1, "local_steps": 1, "learning_rate": 4.0, "batch_size": 20,
}  # fmt: skip
TASK = Task("site-000", 1, ("a", "b", "c", "d"), (), rate=0.5)


def values(parts) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts]) / 2.0**PLACES


def deviation(answer, request, config) -> float:
    """The measured standard deviation of a site's share."""
    rng = np.random.default_rng(0)
    [name] = with_share(answer, request, config, rng)
    drawn = np.concatenate([values(with_share(answer, request, config, rng)[name]) for _ in range(40)])
    return float(drawn.std())


def zero(answer):
    return replace(answer, total=tuple(np.zeros_like(array) for array in answer.total))


def expected(bound: float, honest: int, size: int = SIZE) -> float:
    return 2.0 * integer_sensitivity(bound, 2.0**PLACES, size) / 2.0**PLACES / np.sqrt(honest)


def test_a_share_is_what_honest_sites_need_together() -> None:
    at_sites = deviation(zero(update(0)), TASK, masked_config(5, **SITE))
    assert at_sites == pytest.approx(expected(0.25, 5), rel=0.03)
    of_images = deviation(zero(update(0)), TASK, masked_config(5, **IMAGE))
    assert of_images == pytest.approx(expected(4.0 * 0.5 * 0.5 / 20, 4), rel=0.03)


def test_the_noise_of_a_total_is_that_of_the_guarantee() -> None:
    config, rng = masked_config(5, **SITE), np.random.default_rng(0)
    sums = []
    for _ in range(40):
        shares = [values(with_share(zero(update(0)), TASK, config, rng)["total"]) for _ in range(5)]
        sums.append(np.sum(shares, axis=0))
    promised = guarantee(config)
    assert promised is not None
    assert np.concatenate(sums).std() == pytest.approx(promised.noise_multiplier * config.clip, rel=0.03)


@pytest.mark.parametrize("spoil", [1e6, np.nan, np.inf])
def test_a_site_changes_the_total_by_no_more_than_the_bound(spoil: float) -> None:
    """Of the same draws the noise is the same, so a difference is all that a site adds to it."""
    config, answer = masked_config(5, **SITE), update(0)
    answer = replace(answer, total=(answer.total[0] * np.float32(spoil), answer.total[1]))
    for seed in range(20):
        with_it, without = (
            np.concatenate(
                [part.ravel() for part in with_share(one, TASK, config, np.random.default_rng(seed))["total"]]
            )
            for one in (answer, zero(answer))
        )
        assert norm([without / 2.0**PLACES]) < 100, "the noise"
        assert norm([with_it - without]) <= integer_sensitivity(0.25, 2.0**PLACES, SIZE)


@pytest.mark.parametrize(
    ("strategy", "what", "shapes", "bound"),
    [
        ("fedncm", "noisy classes", [(4, WIDTH)], 0.5),
        ("fed3r", "noisy gram", [(WIDTH * (WIDTH + 1) // 2,), (WIDTH, 4)], np.hypot(0.25, 0.5)),
    ],
)
def test_sums_get_their_share_too(strategy: str, what: str, shapes: list, bound: float) -> None:
    settings = {
        key: IMAGE[key] for key in ("dp", "noise", "noise_multiplier", "min_sites", "clip", "colluding_sites")
    }
    config = masked_config(5, strategy=strategy, **settings)
    sums = Sums(1, "f" * 64, "c" * 16, 1, tuple(np.zeros(shape) for shape in shapes))
    size = sum(array.size for array in sums.arrays)
    assert deviation(sums, Gather("a", 0, ("a",), what), config) == pytest.approx(
        expected(bound, 4, size), rel=0.03
    )


def test_what_is_noised_travels_and_the_rest_is_exact() -> None:
    config, rng, answer = masked_config(5, **SITE), np.random.default_rng(0), update(0)
    instead = with_share(answer, TASK, config, rng)
    result = decode(encode(answer, 5, rng, instead=instead), answer, 5)
    assert result.examples == answer.examples
    np.testing.assert_array_equal(
        np.concatenate([array.ravel() for array in result.total]), values(instead["total"])
    )


def test_nothing_is_noised_without_shared_noise_and_of_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    assert with_share(update(0), TASK, masked_config(5), rng) == {}
    alone = masked_config(5, dp="image", noise_multiplier=1.0, weighting="uniform")
    assert with_share(update(0), TASK, alone, rng) == {}
    scores = update(0)
    from fedtransfer.common.wire.protocol import Scores

    answer = Scores(scores.round, scores.fingerprint, scores.classes, scores.validation, scores.test)
    assert with_share(answer, TASK, masked_config(5, **SITE), rng) == {}


def test_noise_that_whole_numbers_cannot_carry_is_refused() -> None:
    config = masked_config(5, **{**SITE, "noise_multiplier": 1e10})
    with pytest.raises(
        SiteError, match="cannot add noise to its answer as whole numbers: share of noise"
    ) as caught:
        with_share(update(0), TASK, config, np.random.default_rng(0))
    assert caught.value.code == "beyond-bound"
