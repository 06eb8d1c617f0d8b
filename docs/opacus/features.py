"""Write the features that heads see, for ``compare.py``, which knows nothing of this project.

    python docs/opacus/features.py --data cifar10 opacus-features.npz

They are those of ``fedtransfer simulate`` by default: bundled backbone, centred by its public mean,
length 1. All images of a data set that are not of its test split are for training.
"""

import argparse

import numpy as np

from fedtransfer.client.data import prepare_site
from fedtransfer.common.config.config import make_config
from fedtransfer.simulations.data.sites import sites_of

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("file", help="where x_train, y_train, x_test and y_test go")
parser.add_argument("--data", default="cifar10", help="as for fedtransfer simulate")
parser.add_argument("--store", default="", help="as for fedtransfer simulate")
arguments = parser.parse_args()

config = make_config(
    {"data": arguments.data, "store": arguments.store, "sites": 1, "partition": "iid"}, "options"
)
(images,) = sites_of(config)[1].values()
site = prepare_site(images, config)
classes = tuple(sorted({image.label for image in images}))
arrays = {split: site.data(split, classes) for split in ("train", "validation", "test")}
x, y = (np.concatenate(both) for both in zip(arrays["train"], arrays["validation"], strict=True))
np.savez(arguments.file, x_train=x, y_train=y, x_test=arrays["test"][0], y_test=arrays["test"][1])
print(f"{arguments.file}: {len(y)} training and {len(arrays['test'][1])} test images, d = {x.shape[1]}")
