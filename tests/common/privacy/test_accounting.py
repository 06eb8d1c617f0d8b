"""What releases cost, against published values and an account written here by itself."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, ndtr

from fedtransfer.common.privacy.accounting import Release, epsilon, epsilon_by_orders, noise_for

DELTA = 1e-5
IMAGES = 50_000


def loss_distributions_composed(rate: float, z: float, times: int, delta: float) -> float:
    """ε of the Poisson sampled Gaussian: its loss on a fine grid, convolved; the worse direction.

    A grid eight times as fine gives ε that differ by less than one part in 50,000.

    Removing a unit: outputs x of (1-q) N(0, z²) + q N(1, z²), with loss
    log(1 - q + q exp((2x - 1) / 2z²)) against N(0, z²).
    Adding it: the negative of that loss, for x of N(0, z²).
    """
    size = 2**17
    sample = np.linspace(-9 * z, 1 + 9 * z, 20_001)
    loss = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * sample - 1) / (2 * z * z))
    spread = math.sqrt(times) * max(
        float(np.sqrt(np.average(loss**2, weights=np.exp(-((sample - m) ** 2) / 2 / z**2)))) for m in (0, 1)
    )
    step = max(40 * spread, 4 * float(np.abs(loss).max())) / size
    edges = (np.arange(size + 1) - size // 2 - 0.5) * step
    inside = edges > math.log1p(-rate) + 1e-15
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(inside, z * z * (np.log(np.expm1(edges) / rate + 1)) + 0.5, -np.inf)
    found = []
    for sign, cdf in ((1, (1 - rate) * ndtr(x / z) + rate * ndtr((x - 1) / z)), (-1, ndtr(x / z))):
        masses = np.diff(cdf)
        masses = masses if sign > 0 else np.roll(masses[::-1], 1)
        spectrum = np.fft.rfft(np.fft.ifftshift(masses)) ** times
        total = np.fft.fftshift(np.fft.irfft(spectrum, size)).clip(0)
        losses = (np.arange(size) - size // 2) * step
        low, high = 0.0, float(losses[-1])
        for _ in range(60):
            middle = (low + high) / 2
            above = losses > middle
            spent = float((total[above] * -np.expm1(middle - losses[above])).sum())
            low, high = (middle, high) if spent > delta else (low, middle)
        found.append(high)
    return max(found)


@pytest.mark.parametrize(
    ("rate", "noise", "times"),
    [
        (0.05, 2.0, 500),
        (0.5, 30.0, 1000),
        pytest.param(16384 / IMAGES, 21.05, 250, marks=pytest.mark.full),
        pytest.param(0.02, 1.0, 500, marks=pytest.mark.full),
        pytest.param(0.01, 0.8, 200, marks=pytest.mark.full),
    ],
)
def test_loss_distributions_agree_with_another_implementation(rate: float, noise: float, times: int) -> None:
    spent = {Release(rate, noise): times}
    assert epsilon(spent, DELTA) == pytest.approx(
        loss_distributions_composed(rate, noise, times, DELTA), rel=0.005
    )
    assert epsilon(spent, DELTA) < epsilon_by_orders(spent, DELTA)


def test_the_published_noise_of_cifar_by_orders() -> None:
    """De et al. 2022 (arXiv 2204.13650) train at noise 21.1 for this."""
    rate = 16384 / IMAGES
    assert epsilon_by_orders({Release(rate, 21.05 * 1.003): 250}, DELTA) < 1
    assert epsilon_by_orders({Release(rate, 21.05 * 0.997): 250}, DELTA) > 1
    assert epsilon({Release(rate, 19): 250}, DELTA) > 1 > epsilon({Release(rate, 20): 250}, DELTA)


@pytest.mark.parametrize(
    ("batch", "times", "noises"),
    [
        (1024, 488, (2.04, 1.27, 0.91, 0.69)),
        (4096, 250, (5.40, 2.98, 1.75, 1.15)),
        (16384, 100, (13.41, 7.20, 3.97, 2.29)),
        (IMAGES, 50, (28.6, 15.2, 8.2, 4.5)),
    ],
)
def test_noise_by_orders_for_usual_batches(batch: int, times: int, noises: tuple[float, ...]) -> None:
    digit = 0.051 if batch == IMAGES else 0.0051
    for target, noise in zip((1, 2, 4, 8), noises, strict=True):
        assert epsilon_by_orders({Release(batch / IMAGES, noise + digit): times}, DELTA) < target
        assert epsilon_by_orders({Release(batch / IMAGES, noise - digit): times}, DELTA) > target


@pytest.mark.parametrize(
    ("rate", "noise", "times"), [(0.3, 21.0, 250), (0.02, 0.9, 500), (0.5, 2.0, 20), (1.0, 8.0, 50)]
)
def test_orders_are_those_of_the_library(rate: float, noise: float, times: int) -> None:
    library = RdpAccountant(orders=list(range(2, 60)))
    library.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), times)
    assert epsilon_by_orders({Release(rate, noise): times}, DELTA) == pytest.approx(
        library.get_epsilon(DELTA), rel=2e-3
    )


@pytest.mark.parametrize(("target", "noise"), [(0.5, 7.03), (1, 3.73), (2, 1.99), (4, 1.08), (8, 0.60)])
def test_one_gaussian_has_the_analytic_noise(target: float, noise: float) -> None:
    """Balle and Wang 2018, arXiv 1805.06530."""
    assert noise_for(lambda z: {Release(1, z): 1}, target, DELTA) == pytest.approx(noise, abs=0.006)


@given(noise=st.floats(1, 100), times=st.integers(1, 1000))
def test_sums_of_every_unit_cost_as_one_with_all_the_noise(noise: float, times: int) -> None:
    together = epsilon({Release(1, noise): times}, DELTA)
    assert together == pytest.approx(epsilon({Release(1, noise / math.sqrt(times)): 1}, DELTA), rel=1e-6)
    mu = math.sqrt(times) / noise  # δ(ε) of Balle and Wang's Theorem 8
    if together:
        delta = (
            ndtr(-together / mu + mu / 2) - math.exp(together) * ndtr(-together / mu - mu / 2)
            if together < 50
            else DELTA
        )
        assert delta == pytest.approx(DELTA, rel=1e-4)


def test_sampled_and_whole_sums_compose() -> None:
    """A rate just below 1 is as good as 1: both ways of accounting meet."""
    whole, almost = Release(1, 20), Release(1 - 1e-9, 20)
    assert epsilon({whole: 30, almost: 70}, DELTA) == pytest.approx(epsilon({whole: 100}, DELTA), rel=2e-3)
    alone = epsilon({Release(0.05, 2): 500}, DELTA)
    assert alone < epsilon({Release(0.05, 2): 500, whole: 10}, DELTA) < alone + epsilon({whole: 10}, DELTA)


def divergence(p: np.ndarray, q: np.ndarray, order: int) -> float:
    return float(logsumexp(order * np.log(p) + (1 - order) * np.log(q))) / (order - 1)


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_sampled_discrete_noise_is_bounded_in_both_directions(rate: float) -> None:
    """The sum of four discrete Gaussians, in full, against what one sampled release is charged."""
    x = np.arange(-1000, 1001)
    share = np.exp(-(x**2) / (2 * 8.0**2))
    total = share / share.sum()
    for _ in range(3):
        total = np.convolve(total, share / share.sum(), "same")
    for shift in (4, 16):
        without, unit = total[700:1300], total[700 - shift : 1300 - shift]
        mixed = (1 - rate) * without + rate * unit
        z = 16 / shift
        for order in (2, 3, 8):
            expansion = [
                math.log(math.comb(order, k))
                + k * math.log(rate)
                + (order - k) * math.log1p(-rate)
                + k * (k - 1) / (2 * z * z)
                for k in range(order + 1)
            ]
            charged = float(logsumexp(expansion)) / (order - 1)
            assert divergence(mixed, without, order) == pytest.approx(charged, rel=1e-6)
            assert divergence(without, mixed, order) < charged


@examples(8, 20)
@given(rate=st.floats(0.001, 1), noise=st.floats(0.5, 50), times=st.integers(1, 2000))
def test_discrete_noise_is_never_charged_less_than_gaussian(rate: float, noise: float, times: int) -> None:
    assert epsilon({Release(rate, noise, True): times}, DELTA) >= epsilon(
        {Release(rate, noise): times}, DELTA
    )


@examples(6, 12)
@given(rate=st.floats(0.001, 1), noise=st.floats(0.5, 50), times=st.integers(1, 1000), discrete=st.booleans())
def test_more_releases_units_or_less_noise_cost_more(
    rate: float, noise: float, times: int, discrete: bool
) -> None:
    cost = epsilon({Release(rate, noise, discrete): times}, DELTA)
    slack = 1 - 2e-3  # of the grids
    assert epsilon({Release(rate, noise, discrete): 2 * times}, DELTA) >= cost * slack
    assert epsilon({Release(rate, noise * 0.8, discrete): times}, DELTA) >= cost * slack
    if cost < 300:  # beyond, sampled releases are charged by orders alone
        assert epsilon({Release(min(1, rate * 1.5), noise, discrete): times}, DELTA) >= cost * slack
    assert epsilon({Release(rate, noise, discrete): times}, DELTA / 10) >= cost * slack


def test_extremes() -> None:
    assert epsilon({}, DELTA) == 0
    assert epsilon({Release(0.1, 1): 0}, DELTA) == 0
    for rate in (0.1, 1):
        assert epsilon({Release(rate, 0): 1}, DELTA) == math.inf
        assert epsilon({Release(rate, 1e-300): 1}, DELTA) == math.inf
        assert 400 < epsilon({Release(rate, 0.03): 1}, DELTA) < math.inf
        assert epsilon({Release(rate, 1e9): 1}, DELTA) == 0
    assert 35 < epsilon({Release(0.05, 2): 500}, 1e-300) < 60  # below what loss distributions are exact for


@pytest.mark.parametrize(
    ("release", "target"),
    [
        (Release(1, 1), 0.1),
        (Release(1, 1), 3),
        (Release(1, 1, True), 0.1),
        (Release(1, 1, True), 3),
        (Release(0.05, 1), 3),
        pytest.param(Release(0.05, 1), 0.1, marks=pytest.mark.full),
        pytest.param(Release(0.05, 1, True), 0.1, marks=pytest.mark.full),
        pytest.param(Release(0.05, 1, True), 3, marks=pytest.mark.full),
    ],
)
def test_the_noise_found_is_enough_and_hardly_more(release: Release, target: float) -> None:
    def spent(noise: float) -> dict[Release, int]:
        return {Release(release.rate, noise, release.discrete): 100}

    noise = noise_for(spent, target, DELTA)
    assert epsilon(spent(noise), DELTA) <= target < epsilon(spent(noise * 0.997), DELTA)


def test_targets_that_no_noise_fits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"epsilon 1e-12 at delta 1e-10"):
        noise_for(lambda noise: {Release(1, noise): 100}, 1e-12, 1e-10)
    for target in (1e9, math.inf):
        with pytest.raises(ValueError, match="smaller epsilon"):
            noise_for(lambda noise: {Release(1, noise): 1}, target, DELTA)
