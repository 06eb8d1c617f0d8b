"""Each strategy against a NumPy statement of its paper."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.methods import METHODS, ONE_SHOT
from fedtransfer.common.tensorflow import keras
from fedtransfer.server.strategies import ONE_SHOT_HEADS, STRATEGIES
from fedtransfer.server.strategies.strategy import Contribution, State

PLAIN = RunConfig(server_learning_rate=1.0, server_momentum=0.0)


def contributions(seed: int, sites: int) -> tuple[list[Contribution], np.ndarray, np.ndarray]:
    """Contributions of sites, their deltas (K, 4, 3) and their weights (K,)."""
    rng = np.random.default_rng(seed)
    deltas, n = rng.normal(size=(sites, 4, 3)), rng.integers(1, 100, sites)
    made = [Contribution(((k * d).astype(np.float32),), int(k)) for k, d in zip(n, deltas, strict=True)]
    return made, deltas, n


def run(name: str, config: RunConfig, deltas: list[np.ndarray]) -> State:
    strategy = STRATEGIES[name]
    state = strategy.start((np.zeros(deltas[0].shape, np.float32),), config)
    for delta in deltas:
        state = strategy.step(state, (delta,), config)
    return state


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_plain_fedavg_is_the_weighted_mean_of_heads(seed: int, sites: int) -> None:
    made, deltas, n = contributions(seed, sites)
    fedavg = STRATEGIES["fedavg"]
    first = np.random.default_rng(seed + 1).normal(size=(4, 3)).astype(np.float32)
    state = fedavg.step(fedavg.start((first,), PLAIN), fedavg.combine(made, PLAIN), PLAIN)
    np.testing.assert_allclose(
        state.head[0], np.average(first + deltas, axis=0, weights=n), rtol=1e-5, atol=1e-6
    )
    assert state.head[0].dtype == np.float32


def test_sums_are_exact_where_float32_would_round() -> None:
    """1e8 + 1 - 1e8 is 0 in float32."""
    made = [Contribution((np.array([v], np.float32),), 1) for v in (1e8, 1.0, -1e8)]
    np.testing.assert_array_equal(STRATEGIES["fedavg"].combine(made, PLAIN)[0], [1 / 3])


def test_momentum_follows_hsu_et_al() -> None:
    """v ← βv + Δ, w ← w + ηv, over three rounds, as arXiv 1909.06335 states it."""
    deltas = [np.array([1.0, -2.0]), np.array([0.5, 0.5]), np.array([0.0, 4.0])]
    w, v = np.zeros(2), np.zeros(2)
    for delta in deltas:
        v = 0.9 * v + delta
        w = w + 0.3 * v
    np.testing.assert_allclose(run("fedavg", RunConfig(), deltas).head[0], w, rtol=1e-6)
    np.testing.assert_array_equal(
        run("fedprox", RunConfig(strategy="fedprox"), deltas).head[0], np.float32(w)
    )


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad"])
@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0, 0.95), st.floats(0, 0.99), st.floats(1e-3, 1))
def test_adaptive_strategies_follow_reddi_et_al(name, seed, rounds, beta1, beta2, tau) -> None:
    """Algorithm 2 of arXiv 2003.00295 in float64."""
    deltas = list(np.random.default_rng(seed).normal(size=(rounds, 5)))
    second = {} if name == "fedadagrad" else {"second_momentum": beta2}
    config = RunConfig(
        strategy=name, server_learning_rate=0.1, server_momentum=beta1, adaptivity=tau, **second
    )
    w, m, v = np.zeros(5), np.zeros(5), np.full(5, tau**2)
    for delta in deltas:
        m = beta1 * m + (1 - beta1) * delta
        if name == "fedadagrad":
            v = v + delta**2
        elif name == "fedadam":
            v = beta2 * v + (1 - beta2) * delta**2
        else:
            v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
        w = w + 0.1 * m / (np.sqrt(v) + tau)
    np.testing.assert_allclose(run(name, config, deltas).head[0], w, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 10**6), st.integers(1, 9))
def test_median_and_trimmed_mean_are_those_of_the_deltas(seed: int, sites: int) -> None:
    made, deltas, _ = contributions(seed, sites)
    config = RunConfig(strategy="median")
    np.testing.assert_allclose(
        STRATEGIES["median"].combine(made, config)[0], np.median(deltas, 0), rtol=1e-5, atol=1e-6
    )
    ordered = np.sort(deltas, 0)
    cut = min(int(np.ceil(0.2 * sites)), (sites - 1) // 2)
    trimmed = STRATEGIES["trimmed-mean"].combine(made, RunConfig(strategy="trimmed-mean", trim=0.2))[0]
    np.testing.assert_allclose(trimmed, ordered[cut : sites - cut].mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["median", "trimmed-mean"])
def test_one_wild_site_of_five_does_not_move_robust_strategies_far(name: str) -> None:
    made, deltas, _ = contributions(0, 4)
    wild = [*made, Contribution((np.full((4, 3), 1e30, np.float32),), 1)]
    combined = STRATEGIES[name].combine(wild, RunConfig(strategy=name))[0]
    assert (combined <= deltas.max(0) + 1e-6).all()


@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0.01, 1))
def test_reptile_is_fedavg_with_uniform_weights_and_without_momentum(
    seed: int, sites: int, rate: float
) -> None:
    """And w ← w + ε/K Σ (w_k - w), as arXiv 1803.02999 states it."""
    made, deltas, _ = contributions(seed, sites)
    uniform = [Contribution(tuple(d.astype(np.float32) for d in c.delta), 1) for c in made]
    first = np.random.default_rng(seed + 1).normal(size=(4, 3)).astype(np.float32)
    heads = {}
    for name, given_ in (("reptile", made), ("fedavg", uniform)):
        strategy, config = (
            STRATEGIES[name],
            RunConfig(strategy=name, server_learning_rate=rate, server_momentum=0.0),
        )
        state = strategy.start((first,), config)
        for _ in range(2):
            state = strategy.step(state, strategy.combine(given_, config), config)
        heads[name] = state.head[0]
    np.testing.assert_allclose(heads["reptile"], heads["fedavg"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(heads["reptile"], first + 2 * rate * deltas.mean(0), rtol=1e-5, atol=1e-6)


def test_perfedavg_and_scaffold_move_the_head_as_fedavg_does() -> None:
    made, deltas, _ = contributions(0, 4)
    with_control = [replace(c, control=(d.astype(np.float32),)) for c, d in zip(made, deltas, strict=True)]
    heads = []
    for name, given_ in (("fedavg", made), ("perfedavg", made), ("scaffold", with_control)):
        strategy, config = STRATEGIES[name], RunConfig(strategy=name)
        state = strategy.start((np.ones((4, 3), np.float32),), config)
        for _ in range(3):
            state = strategy.step(state, strategy.combine(given_, config), config)
        heads.append(state.head[0])
    np.testing.assert_array_equal(heads[0], heads[1])
    np.testing.assert_array_equal(heads[0], heads[2])


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_fedopt_is_what_keras_makes_of_minus_the_updates(scale: float) -> None:
    """Keras applies all rounds' updates in one go; ours goes through float64 slots after each."""
    rng = np.random.default_rng(0)
    first = tuple(rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3,)))
    deltas = [tuple(scale * rng.normal(size=array.shape) for array in first) for _ in range(40)]
    config = RunConfig(strategy="fedopt", server_learning_rate=0.3)
    fedopt = STRATEGIES["fedopt"]
    state = fedopt.start(first, config)
    instance = keras.optimizers.Adam(0.3)
    weights = [keras.Variable(array) for array in first]
    for number, delta in enumerate(deltas, 1):
        before, state = state, fedopt.step(state, delta, config)
        assert state.slots["steps"][0] == number
        assert {array.dtype for slot in state.slots.values() for array in slot} == {np.dtype(np.float64)}
        instance.apply([-d.astype(np.float32) for d in delta], weights)
        for old, got, wanted in zip(before.head, state.head, weights, strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6, atol=1e-6)
            assert got.dtype == np.float32
            assert np.abs(got - old).max() > 1e-3


def test_fedopt_refuses_a_checkpoint_of_a_version_that_kept_keras_variables() -> None:
    head = (np.zeros((4, 3), np.float32),)
    old = State(head, {"optimizer": (np.zeros(()), np.zeros(()), np.zeros((4, 3)), np.zeros((4, 3)))})
    with pytest.raises(UserError, match="the checkpoint holds 'optimizer'; expected 'first', 'second', 'st"):
        STRATEGIES["fedopt"].step(old, (np.ones((4, 3)),), RunConfig(strategy="fedopt"))


@pytest.mark.parametrize("name", sorted({*METHODS} - {*ONE_SHOT}))
def test_every_strategy_returns_a_float32_head_and_float64_slots(name: str) -> None:
    made, deltas, _ = contributions(1, 5)
    if name == "scaffold":
        made = [replace(c, control=(d.astype(np.float32),)) for c, d in zip(made, deltas, strict=True)]
    strategy, config = STRATEGIES[name], RunConfig(strategy=name)
    first = strategy.start((np.zeros((4, 3), np.float32),), config)
    state = strategy.step(first, strategy.combine(made, config), config)
    assert state.head[0].dtype == np.float32
    assert {array.dtype for slot in state.slots.values() for array in slot} <= {np.dtype(np.float64)}
    assert state.slots.keys() == first.slots.keys()


def test_every_method_has_a_server_half_of_the_kind_that_its_record_says() -> None:
    assert {*STRATEGIES} == {name for name, method in METHODS.items() if not method.sums}
    assert {*ONE_SHOT_HEADS} == {*ONE_SHOT}
    for name, one_shot in ONE_SHOT_HEADS.items():
        assert (one_shot.solve_noisy is not None) == METHODS[name].dp_image.allowed


@given(st.integers(0, 10**6), st.integers(1, 8), st.booleans())
def test_fedexp_steps_as_its_algorithm_says(seed: int, sites: int, uniform: bool) -> None:
    """Algorithm 1 of arXiv 2301.09604, over two rounds; weighted as the updates are."""
    made, deltas, n = contributions(seed, sites)
    if uniform:
        n = np.ones(sites)
        made = [Contribution((d.astype(np.float32),), 1) for d in deltas]
    p, w = n / n.sum(), np.zeros((4, 3))
    strategy, config = STRATEGIES["fedexp"], RunConfig(strategy="fedexp")
    state = strategy.start((w.astype(np.float32),), config)
    for _ in range(2):
        mean = np.tensordot(p, deltas, 1)
        eta = max(1, sum(p * (deltas**2).sum((1, 2))) / (2 * ((mean**2).sum() + 1e-3)))
        w = w + eta * mean
        state = strategy.step(state, strategy.combine(made, config), config)
    np.testing.assert_allclose(state.head[0], w, rtol=1e-4, atol=1e-5)


def test_fedexp_is_plain_fedavg_where_sites_agree_and_goes_further_where_they_do_not() -> None:
    strategy, config = STRATEGIES["fedexp"], RunConfig(strategy="fedexp")
    apart = [Contribution((np.eye(8, dtype=np.float32)[k] * 100,), 1) for k in range(8)]
    for made, rate in (([apart[0]] * 8, 1.0), (apart, 4.0)):
        *_, step = strategy.combine(made, config)
        assert float(step) == pytest.approx(rate, rel=1e-4)
