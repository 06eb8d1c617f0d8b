"""The files that a backbone is read from, so that their content names its compiled copy."""

import os
from pathlib import Path

from fedtransfer.common.config.config import KERAS_BACKBONES
from fedtransfer.common.config.settings.training import onnx_parts


def origin(name: str, weights: str) -> list[Path] | None:
    """Return the files that decide a network, in a fixed order; None if one is not there.

    Args:
        name: a ResNetV2 of keras.applications, or a model file.
        weights: for a ResNetV2, a weights file or the prefix of a TensorFlow checkpoint; "" means
            the ImageNet weights in Keras' cache.
    """
    if onnx := onnx_parts(name):
        from fedtransfer.common.backbone.onnx_file import files_of

        files = files_of(onnx[0])
    elif name not in KERAS_BACKBONES:
        files = [Path(name).expanduser()]
    elif not weights:
        files = [imagenet_file(name)]
    else:
        path = Path(weights).expanduser()
        index = path.with_name(path.name + ".index")
        parts = sorted(path.parent.glob(f"{path.name}.data-*"))
        files = [index, *parts] if index.is_file() else [path]
    return files if all(file.is_file() for file in files) else None


def imagenet_file(name: str) -> Path:
    """Return where Keras keeps the ImageNet weights of an architecture, there or not."""
    user = os.path.expanduser("~")
    base = user if os.access(user, os.W_OK) else "/tmp"  # where Keras looks too
    home = Path(os.environ.get("KERAS_HOME", os.path.join(base, ".keras")))
    return home / "models" / f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
