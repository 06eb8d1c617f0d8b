import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.strategies import fedavg


def site_heads(seed: int, sites: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(sites, 4, 3)), rng.integers(1, 100, sites)


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_plain_fedavg_is_the_weighted_mean_of_heads(seed: int, sites: int) -> None:
    heads, n = site_heads(seed, sites)
    start = np.random.default_rng(seed + 1).normal(size=(4, 3)).astype(np.float32)
    totals = [sum(k * (head - start.astype(np.float64)) for k, head in zip(n, heads, strict=True))]
    state = fedavg.step(fedavg.start((start,)), totals, int(n.sum()), learning_rate=1.0, momentum=0.0)
    np.testing.assert_allclose(state.head[0], np.average(heads, axis=0, weights=n), rtol=1e-5, atol=1e-6)
    assert state.head[0].dtype == np.float32


def test_momentum_follows_hsu_et_al() -> None:
    """v ← βv + Δ, w ← w + ηv, over three rounds, as arXiv 1909.06335 states it."""
    deltas = [np.array([1.0, -2.0]), np.array([0.5, 0.5]), np.array([0.0, 4.0])]
    state = fedavg.start((np.zeros(2, np.float32),))
    w, v = np.zeros(2), np.zeros(2)
    for delta in deltas:
        state = fedavg.step(state, [delta * 7], 7, learning_rate=0.3, momentum=0.9)
        v = 0.9 * v + delta
        w = w + 0.3 * v
    np.testing.assert_allclose(state.head[0], w, rtol=1e-6)
