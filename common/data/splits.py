"""Train, validation or test: chosen by an image's content (or its group) and the seed alone.

So an image is on the same side at every site and in every partition, and so are its exact copies.
"""

from fedtransfer.common.data.images import Image
from fedtransfer.common.seeds import uniform


def split_of(image: Image, key: bytes, seed: int, test_fraction: float, validation_fraction: float) -> str:
    """Return ``train``, ``validation`` or ``test`` for one image with content key ``key``.

    Images that share a group (one patient, say) fall on one side together. Supplied splits are kept.
    """
    if image.split in ("train", "validation", "test"):
        return image.split
    identity = image.group or key
    if image.split != "development" and uniform(seed, "test split", identity) < test_fraction:
        return "test"
    return "validation" if uniform(seed, "validation split", identity) < validation_fraction else "train"
