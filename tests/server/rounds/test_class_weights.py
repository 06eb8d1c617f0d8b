import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.server.rounds.progress import class_weights

counts = st.lists(st.integers(0, 5000), min_size=1, max_size=30).map(np.array).filter(lambda n: n.any())


@given(counts, st.floats(0, 0.9999))
def test_weights_are_inverse_to_the_effective_number_with_mean_one_over_images(
    n: np.ndarray, beta: float
) -> None:
    """The effective number is 1 + β + β² + … of n terms (arXiv 1901.05555, Proposition 1)."""
    weights = class_weights(n, beta)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights == 0, n == 0)
    np.testing.assert_allclose((weights * n).sum() / n.sum(), 1, rtol=1e-5)
    effective = np.array([(beta ** np.arange(k)).sum() for k in n])[n > 0]
    products = weights[n > 0] * effective
    np.testing.assert_allclose(products, products[0], rtol=1e-5)


def test_the_ends_are_no_weighting_and_inverse_frequency() -> None:
    n = np.array([1, 10, 100])
    np.testing.assert_array_equal(class_weights(n, 0.0), [1, 1, 1])
    np.testing.assert_allclose(class_weights(n, 1 - 1e-9), 37 / n, rtol=1e-4)
