"""Train, validation or test: it depends on an image's content (or its group) and the seed only.

So an image and its exact copies are in the same split at every site and in every partition.
"""

from fedtransfer.common.data.images import Image
from fedtransfer.common.seeds import uniform


def split_of(image: Image, key: bytes, seed: int, test_fraction: float, validation_fraction: float) -> str:
    """Return ``train``, ``validation`` or ``test`` for an image with content key ``key``.

    Images of one group (of one patient, for example) are in one split. Splits that the source
    supplies stay.
    """
    if image.split in ("train", "validation", "test"):
        return image.split
    identity = image.group or key
    if image.split != "development" and uniform(seed, "test split", identity) < test_fraction:
        return "test"
    return "validation" if uniform(seed, "validation split", identity) < validation_fraction else "train"
