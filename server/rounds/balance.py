"""Class weights: the rarer a class, the higher its weight.

Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples" (arXiv 1901.05555): n
images of a class are worth an effective number of (1 - βⁿ) / (1 - β), and the class is weighted by
its inverse: from no weighting at β = 0 to the inverse frequency as β → 1.
"""

import numpy as np
from numpy.typing import NDArray


def class_weights(images: NDArray[np.int64], beta: float) -> NDArray[np.float32]:
    """Return weights of the C classes, (C,) float32.

    Their mean over the images is 1, so that the learning rate keeps its meaning. A class without
    images has weight 0.

    Args:
        images: training images of each class in the whole federation, (C,).
        beta: β in [0, 1).
    """
    present = images > 0
    weights = np.where(present, (1 - beta) / (1 - beta ** np.maximum(images, 1)), 0.0)
    return (weights * images.sum() / (weights * images).sum()).astype(np.float32)
