"""SCAFFOLD, sites and server together, against Algorithm 1 of arXiv 1910.06378 in NumPy."""

from pathlib import Path

import numpy as np
import pytest

from fedtransfer.client.training import scaffold
from fedtransfer.client.training.keras import KerasTrainer
from fedtransfer.client.training.linear import LinearTrainer
from fedtransfer.client.training.scaffold import SiteState
from fedtransfer.client.training.trainer import Recipe, batches
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import HeadSpec
from fedtransfer.common.seeds import generator
from fedtransfer.common.wire.protocol import CONTROL
from fedtransfer.server.strategies import scaffold as server
from fedtransfer.server.strategies.strategy import Contribution

SPEC = HeadSpec(6, 3)
SITES, ROUNDS, EPOCHS, SIZE, ETA = 5, 6, 2, 8, 0.4
CONFIG = RunConfig(strategy="scaffold", sites=SITES, server_learning_rate=0.7, server_momentum=0.0)
RECIPE = Recipe("sgd", ETA, SIZE, EPOCHS, corrected=True)


def sites() -> list[tuple[np.ndarray, np.ndarray]]:
    """Sites of 10 to 26 images, each with two of the three classes."""
    made = []
    for k in range(SITES):
        rng = np.random.default_rng(k)
        y = (rng.integers(0, 2, 10 + 4 * k) + k) % 3
        x = rng.normal(size=(len(y), 6)) + np.eye(3, 6)[y]
        made.append(((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y))
    return made


def cohorts() -> list[list[int]]:
    return [
        sorted(np.random.default_rng(r).choice(SITES, 2, replace=False).tolist())
        for r in range(1, ROUNDS + 1)
    ]


def rates() -> list[float]:
    return [1 - 0.1 * r for r in range(ROUNDS)]


def algorithm_1(x: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray], list[list[np.ndarray]]]:
    """Return x, c and all c_i; uniform weights, float64, lines numbered as in the paper."""
    held = sites()
    c = [np.zeros_like(v) for v in x]
    c_i = [[np.zeros_like(v) for v in x] for _ in range(SITES)]
    for r, (cohort, share) in enumerate(zip(cohorts(), rates(), strict=True), 1):  # 2-3
        dy, dc, eta = [], [], ETA * share
        for i in cohort:  # 6
            features, labels = held[i]
            y, steps, rng = [v.copy() for v in x], 0, generator(0, "test", r, i)  # 7
            for _ in range(EPOCHS):
                for row in batches(len(labels), SIZE, rng):  # 8
                    b = row[row >= 0]
                    p = np.exp(features[b].astype(np.float64) @ y[0] + y[1])
                    p = p / p.sum(1, keepdims=True) - np.eye(3)[labels[b]]
                    g = [features[b].T @ p / len(b), p.mean(0)]  # 9
                    y = [
                        v - eta * (gv - ci + cv) for v, gv, ci, cv in zip(y, g, c_i[i], c, strict=True)
                    ]  # 10
                    steps += 1
            plus = [
                ci - cv + (xv - yv) / (steps * eta) for ci, cv, xv, yv in zip(c_i[i], c, x, y, strict=True)
            ]  # 12 (ii)
            dy.append([yv - xv for yv, xv in zip(y, x, strict=True)])  # 13
            dc.append([new - old for new, old in zip(plus, c_i[i], strict=True)])
            c_i[i] = plus  # 14
        x = [v + 0.7 * np.mean([d[j] for d in dy], axis=0) for j, v in enumerate(x)]  # 16-17
        c = [v + len(cohort) / SITES * np.mean([d[j] for d in dc], axis=0) for j, v in enumerate(c)]
    return x, c, c_i


@pytest.mark.parametrize("build", [LinearTrainer, KerasTrainer])
def test_rounds_with_partial_cohorts_are_those_of_algorithm_1(build, tmp_path: Path) -> None:
    held, t = sites(), build(SPEC, RECIPE)
    first = tuple(np.random.default_rng(9).normal(size=shape).astype(np.float32) for shape in SPEC.shapes)
    state = server.start(first, CONFIG)
    zeros = tuple(np.zeros_like(array) for array in first)
    kept, last = [SiteState(tmp_path / str(i), "0123abcd") for i in range(SITES)], [0] * SITES
    for r, (cohort, share) in enumerate(zip(cohorts(), rates(), strict=True), 1):
        sent, control = state.head, server.extra(state)[CONTROL]
        made = []
        for i in cohort:
            own = kept[i].after(last[i]) or zeros
            x, y = held[i]
            head = t.train(
                sent,
                x,
                y,
                generator(0, "test", r, i),
                EPOCHS,
                rate=share,
                correction=scaffold.correction(control, own),
            )
            steps = scaffold.local_steps(len(y), SIZE, EPOCHS)
            following, change = scaffold.next_control(sent, head, control, own, steps, ETA * share)
            kept[i].keep(r, following)
            last[i] = r
            made.append(
                Contribution(tuple(new - old for new, old in zip(head, sent, strict=True)), 1, change)
            )
        state = server.step(state, server.combine(made, CONFIG), CONFIG)
    x, c, c_i = algorithm_1([array.astype(np.float64) for array in first])
    own = [kept[i].after(last[i]) or zeros for i in range(SITES)]
    for j in range(2):
        np.testing.assert_allclose(state.head[j], x[j], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state.slots["control"][j], c[j], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state.slots["control"][j], np.mean([o[j] for o in own], axis=0), atol=1e-6)
        for i in range(SITES):
            np.testing.assert_allclose(own[i][j], c_i[i][j], rtol=1e-4, atol=1e-5)
    assert abs(c[0]).max() > 0.01
