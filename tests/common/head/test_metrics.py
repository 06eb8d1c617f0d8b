import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

from fedtransfer.common.head import metrics
from fedtransfer.common.head.metrics import Counts


def sample(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), n).astype(np.float32), rng.integers(0, classes, n)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 6))
def test_scores_are_those_of_scikit_learn(seed: int, n: int, classes: int) -> None:
    p, y = sample(seed, n, classes)
    counts = Counts.of(p, y)
    present = np.unique(y)
    precision, recall, f1, _ = precision_recall_fscore_support(
        y, p.argmax(1), labels=present, zero_division=0
    )
    assert counts.accuracy == pytest.approx(accuracy_score(y, p.argmax(1)))
    assert counts.macro() == pytest.approx(
        {"macro_precision": precision.mean(), "macro_recall": recall.mean(), "macro_f1": f1.mean()}
    )
    assert counts.mean_loss == pytest.approx(
        log_loss(y, p.astype(np.float64) / p.sum(1, dtype=np.float64)[:, None], labels=range(classes)),
        rel=1e-4,
    )
    np.testing.assert_array_equal(
        metrics.confusion_matrix(p, y), confusion_matrix(y, p.argmax(1), labels=range(classes))
    )


@given(st.integers(0, 10**6), st.integers(2, 50), st.data())
def test_counts_of_parts_add_up_to_counts_of_all(seed: int, n: int, data) -> None:
    p, y = sample(seed, n, 4)
    cut = data.draw(st.integers(0, n))
    total, parts = Counts.of(p, y), Counts.of(p[:cut], y[:cut]) + Counts.of(p[cut:], y[cut:])
    assert parts.macro() == total.macro()
    assert parts.loss == pytest.approx(total.loss)


def test_no_images_have_no_score() -> None:
    nothing = Counts.empty(3)
    assert np.isnan([nothing.accuracy, nothing.mean_loss, *nothing.macro().values()]).all()
