"""Exactness: federated training equals training on all images together, where theory says so."""

from pathlib import Path

import numpy as np
from drawn_sites import WIDTH, Drawn, draw, numbers, seen, three_sites, together
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.wire.protocol import Task

CLASSES = "abc"


def scattered(seed: int, n: int, sites: int) -> dict:
    """n images spread over sites at random: some have one image, or one class, or none at all."""
    rng = np.random.default_rng(seed)
    x, labels = draw(seed, n)
    place = rng.choice(sites, n, p=rng.dirichlet(np.full(sites, 0.5)))
    held_out = {"validation": draw(seed + 1, 6), "test": draw(seed + 2, 3)}
    return {f"site-{k}": {"train": (x[place == k], labels[place == k]), **held_out} for k in range(sites)}


def gradient_descent(config: RunConfig, data: dict, weights: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Heads of plain gradient descent on the mean loss of all images, in float64."""
    x, labels = together(data, "train")
    z, target = seen(config, x).astype(np.float64), np.eye(3)[numbers(labels, CLASSES)]
    heads = [weights]
    for _ in range(config.rounds):
        kernel, bias = heads[-1]
        p = np.exp(z @ kernel + bias)
        error = p / p.sum(1, keepdims=True) - target
        step = [z.T @ error / len(z), error.mean(0)]
        heads.append([w - config.learning_rate * g for w, g in zip(heads[-1], step, strict=True)])
    return heads


@examples(8, 20)
@given(st.integers(0, 10**6), st.integers(3, 80), st.integers(1, 7), st.floats(0.1, 4.0), st.integers(1, 5))
def test_fedavg_of_one_full_step_is_gradient_descent_on_all_images(
    tmp_path_factory, seed: int, n: int, sites: int, rate: float, rounds: int
) -> None:
    data = scattered(seed, n, sites)
    run = Drawn(data, tmp_path_factory.mktemp("run"))
    how = {"learning_rate": rate, "rounds": rounds, "batch_size": n}
    outcome = run.run(**how)
    expected = gradient_descent(run.config(**how), data, [np.zeros((WIDTH, 3)), np.zeros(3)])
    entered = {task.round: task.head for task in run.requests(Task)} | {
        rounds + 1: outcome.progress.state.head
    }
    for number, head in enumerate(expected, 1):
        found, wanted = np.vstack(entered[number]), np.vstack(head)
        assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)


@examples(4, 10)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_uniform_weights_give_another_head_unless_sites_are_equal(
    tmp_path_factory, seed: int, sites: int
) -> None:
    """So the test above can tell how updates are weighted."""
    x, labels = draw(seed, 12 * sites)
    held_out = {"validation": draw(seed + 1, 6), "test": draw(seed + 2, 3)}
    equal = {f"site-{k}": {"train": (x[k::sites], labels[k::sites]), **held_out} for k in range(sites)}
    how = {"rounds": 2, "batch_size": 100}
    heads = [
        Drawn(equal, tmp_path_factory.mktemp("run")).run(weighting=weighting, **how).progress.state.head
        for weighting in ("examples", "uniform")
    ]
    np.testing.assert_allclose(*[head[0] for head in heads], rtol=1e-4, atol=1e-6)


def test_uniform_weights_differ_on_sites_of_different_sizes(tmp_path: Path) -> None:
    heads = [
        Drawn(three_sites(), tmp_path / weighting)
        .run(rounds=2, batch_size=100, weighting=weighting)
        .progress.state.head
        for weighting in ("examples", "uniform")
    ]
    assert np.linalg.norm(heads[0][0] - heads[1][0]) > 1e-3 * np.linalg.norm(heads[0][0])


@examples(3, 10)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3))
def test_fedprox_goes_to_fedavg_as_mu_goes_to_0(tmp_path_factory, seed: int, sites: int, epochs: int) -> None:
    data = scattered(seed, 40, sites)
    how = {"rounds": 3, "batch_size": 8, "local_epochs": epochs, "learning_rate": 1.0, "seed": seed % 5}

    def head(**settings_: object) -> np.ndarray:
        outcome = Drawn(data, tmp_path_factory.mktemp("run")).run(**how, **settings_)
        return np.vstack(outcome.progress.state.head).astype(np.float64)

    plain = head()
    apart = [np.linalg.norm(head(strategy="fedprox", proximal=mu) - plain) for mu in (0.3, 3e-3, 1e-12)]
    assert apart[0] > 10 * apart[1] > 0, "the distance falls with mu"
    assert apart[2] <= 1e-6 * np.linalg.norm(plain)
