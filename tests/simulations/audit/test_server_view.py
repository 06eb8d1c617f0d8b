"""What the server reads off its sites in runs of each kind, against the truth."""

from typing import Any

import numpy as np
import pytest
from drawn_features import drawn

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.audit.federation import RoundView, Split, federate
from fedtransfer.simulations.audit.server_view import Measure, measure_leaks, recovered

CLASSES, D = 6, 32
MASKS = {"masks": True, "min_sites": 5}
SUMS = {"dp": "image", "epsilon": 2.0}
IMAGE = {**SUMS, "weighting": "uniform", "image_rate": 0.5, "batch_size": 15}
SITE = {"dp": "site", "epsilon": 8.0, "weighting": "uniform"}
SHARED = {**MASKS, "noise": "shared"}


def sites() -> dict[str, Split]:
    """Five sites of 30 images, each with a class of one image and one of none."""
    made = {}
    for number in range(5):
        rng = np.random.default_rng(number)
        counts = rng.permutation([0, 1, 3, 6, 8, 12])
        x, y = drawn(counts, np.random.default_rng(0), D)  # the same classes everywhere
        made[f"site {number}"] = x, y
    return made


def public() -> Split:
    """Images of the same classes at no site."""
    x, y = drawn(np.full(CLASSES, 40), np.random.default_rng(0), D)
    return x[20::40], y[20::40]


def measured(**settings: Any) -> dict[str, Measure]:
    config = RunConfig(
        **{"rounds": 2, "batch_size": 30, "classes": "declared", "class_names": "a,b,c,d,e,f", **settings}
    )
    rounds: list[RoundView] = []
    federate(config, sites(), CLASSES, 0, rounds.append, rng=np.random.default_rng(0))
    return {
        f"{m.attack}/{m.measure}": m
        for m in measure_leaks(config, sites(), CLASSES, rounds, public(), "their own images")
    }


def value(measures: dict[str, Measure], name: str) -> float:
    return measures[name].estimate.mean


@pytest.mark.parametrize(
    "settings",
    [
        {},
        SITE,
        {"strategy": "fedncm"},
        {"strategy": "fed3r", "ridge": 1.0},
        {"strategy": "fedprox", "proximal": 0.1},
    ],
    ids=str,
)
def test_unprotected_sites_give_all_away_and_a_server_that_adds_the_noise_itself_sees_it_too(
    settings: dict[str, Any],
) -> None:
    found = measured(**settings)
    assert value(found, "labels/exact_share") == 1
    assert value(found, "labels/l1") < 1e-3
    for bucket in ("1", "2-5", "6+"):
        assert value(found, f"features/cosine@{bucket}") > 0.999
    large = found["features/cosine@6+"].estimate
    assert 0.999 < large.low <= large.high < 1.001
    assert [found[f"features/cosine@{bucket}"].estimate.n for bucket in ("1", "2-5", "6+")] == [5, 5, 15]


def test_masks_leave_the_union_of_which_a_site_is_any_part() -> None:
    plain, masked = measured(strategy="fedncm"), measured(strategy="fedncm", **MASKS)
    assert value(masked, "labels/exact_share") < 0.4
    assert value(masked, "labels/l1") > 0.4
    assert value(masked, "features/cosine@1") < 0.95 < value(plain, "features/cosine@1")
    assert value(masked, "means/max_cosine") < 0.95 < value(plain, "means/max_cosine")


@pytest.mark.parametrize(
    "settings", [IMAGE, {**SUMS, "strategy": "fedncm"}, {**SUMS, "strategy": "fed3r"}], ids=str
)
@pytest.mark.parametrize("masks", [{}, SHARED], ids=["", "masks"])
def test_private_images_leave_guesses(settings: dict[str, Any], masks: dict[str, Any]) -> None:
    if masks and settings is IMAGE:
        # Shared noise is for one release a round.
        settings = {**settings, "image_rate": 1.0, "batch_size": 30}
    found = measured(**settings, **masks)
    assert value(found, "labels/exact_share") < 0.4
    assert value(found, "labels/l1") > 0.4
    # Totals of many sites still show what all features share: their cosines are 0.3 and more.
    assert value(found, "features/cosine@1") < (0.75 if masks else 0.6)


def test_a_server_without_masks_adds_noisy_answers_up_as_masks_would() -> None:
    """What all features have in common stands out of the noise in the sum, not in one answer."""
    noisy = {**SUMS, "strategy": "fedncm", "epsilon": 1.0}
    found, total = measured(**noisy), measured(**noisy, **MASKS)
    for bucket in ("2-5", "6+"):
        name = f"features/cosine@{bucket}"
        assert value(found, name) == pytest.approx(value(total, name), abs=0.15)
        assert value(found, name) > 0.2


def test_noise_shared_by_sites_hides_their_updates_too() -> None:
    found = measured(**SITE, **SHARED)
    assert value(found, "labels/l1") > 0.4
    assert value(found, "features/cosine@6+") < 0.6


def test_a_gram_matrix_tells_which_images_it_is_of() -> None:
    found = measured(strategy="fed3r", ridge=1.0)
    assert value(found, "gram/inside_span") == pytest.approx(1)
    assert value(found, "gram/inside_span_of_others") < 0.99
    assert 0.5 < value(found, "gram/max_cosine") < 1
    noisy = measured(**{**SUMS, "strategy": "fed3r"})
    assert value(noisy, "gram/max_cosine") < value(found, "gram/max_cosine")


def test_each_site_is_attacked_in_the_first_round_that_it_is_in() -> None:
    """All were in one of twelve rounds by two, most of them not in the first."""
    found = measured(fraction=0.4, rounds=12)
    assert found["labels/l1"].estimate.n == 5
    assert value(found, "labels/l1") < 0.3


def test_a_masked_total_is_that_of_its_cohort() -> None:
    """Three sites of five: what their images come to is read off well, of the others nothing."""
    settings = {"rounds": 1, "batch_size": 30, "classes": "declared", "class_names": "a,b,c,d,e,f"}
    config, rounds = RunConfig(**settings, masks=True, min_sites=3, fraction=0.6), list[RoundView]()
    federate(config, sites(), CLASSES, 0, rounds.append, rng=np.random.default_rng(0))
    read = recovered(config, dict.fromkeys(sites(), 30), rounds)
    assert set(read) == set(rounds[0].cohort)
    assert len(read) == 3
    true = sum(np.bincount(sites()[name][1], minlength=CLASSES) for name in read)
    np.testing.assert_allclose(sum(each.counts for each in read.values()), true, atol=1)


def test_a_guess_that_needs_nothing_from_a_site_stands_beside_what_is_read_off() -> None:
    plain, private = measured(), measured(strategy="fedncm", **SUMS)
    for found in (plain, private):
        # Five sites, classes of 0, 1, 3, 6, 8 and 12 images: one number is right in one of six.
        assert found["labels/exact_share"].by_chance == pytest.approx(1 / 6)
        assert found["labels/l1"].by_chance == pytest.approx((5 + 4 + 2 + 1 + 3 + 7) / 30)
        for bucket in ("1", "2-5", "6+"):
            assert 0.3 < found[f"features/cosine@{bucket}"].by_chance < 0.8
    assert value(private, "means/max_cosine") == pytest.approx(private["means/max_cosine"].by_chance, abs=0.3)


def test_features_of_any_length_are_refused() -> None:
    with pytest.raises(UserError, match="normalise = true"):
        measure_leaks(RunConfig(normalise=False), sites(), CLASSES, [], public(), "")
