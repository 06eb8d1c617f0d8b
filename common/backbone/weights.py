"""Load weights into a network of known architecture, matched by the variables' names.

This module reads Keras' older HDF5 layout and TensorFlow checkpoints of Keras 2, Keras 3 and
TensorFlow 1. Keras reads its ``.weights.h5`` and ``.keras`` files.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fedtransfer.common.backbone.origin import imagenet_file
from fedtransfer.common.errors import UserError
from fedtransfer.common.tensorflow import keras, tf

Arrays = dict[str, Any]  # variable name, such as conv1_conv/kernel → array
_TOPS = ("predictions", "probs", "fc1000", "classifier", "head", "logits")  # names of classification tops
_CHECKPOINT_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def load_weights(network: Any, path: Path) -> None:
    """Load the weights of a file, or of a checkpoint given by its prefix, into a network.

    Raises:
        UserError: there is nothing at ``path``, or it does not fit; the text lists variables
            without a counterpart.
    """
    if path.with_name(path.name + ".index").is_file():
        return assign_by_name(network, _checkpoint_arrays(path), path)
    if not path.is_file():
        raise UserError(
            f"--weights {path}: no such file; expected weights of {network.name} as Keras saves them "
            "(.weights.h5, .h5, .keras), or the prefix of a TensorFlow checkpoint (PREFIX.index next to it)"
        )
    if (arrays := _named_arrays(path)) is not None:
        return assign_by_name(network, arrays, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras only warns about layers without weights in the file
            network.load_weights(path)
    except Exception as error:
        raise UserError(f"{path}: not weights of {network.name}: {str(error).splitlines()[0]}") from None


def assign_by_name(network: Any, arrays: Arrays, path: Path) -> None:
    """Set every variable of a network from arrays of Keras' names; a classification top is ignored.

    Raises:
        UserError: variables on either side have no counterpart; the text lists them.
    """
    variables = {f"{layer.name}/{each.name}": each for layer in network.layers for each in layer.weights}
    missing = [name for name in variables if name not in arrays]
    surplus = [name for name in arrays if name not in variables and name.split("/")[0] not in _TOPS]
    misshapen = [
        f"{name} {arrays[name].shape}, expected {tuple(weight.shape)}"
        for name, weight in variables.items()
        if name in arrays and arrays[name].shape != tuple(weight.shape)
    ]
    faults = {
        "of the network are missing in the file": missing,
        "of the file are unknown to the network": surplus,
        "have another shape": misshapen,
    }
    problems = [f"{len(names)} variables {fault}: {_list(names)}" for fault, names in faults.items() if names]
    if problems:
        raise UserError(f"{path}: not weights of {network.name}; " + "; ".join(problems))
    for name, weight in variables.items():
        weight.assign(arrays[name])


def imagenet_weights(name: str) -> Path:
    """Return the ImageNet weights file from Keras' cache, which downloads it the first time."""
    from keras.src.applications import resnet

    file = imagenet_file(name)
    url = resnet.BASE_WEIGHTS_PATH + file.name
    digest = resnet.WEIGHTS_HASHES[name][1]
    try:
        return Path(keras.utils.get_file(file.name, url, cache_subdir="models", file_hash=digest))
    except Exception as error:
        raise UserError(
            f"{name}: the ImageNet weights are not on this machine and could not be downloaded "
            f"({type(error).__name__}).\n"
            f"Keras wants the file {file.name} and looks for it in {file.parent}.\n"
            f"Fetch it on a machine with a network from {url} and put it there, "
            "or name it with --weights FILE."
        ) from None


def _list(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _named_arrays(path: Path) -> Arrays | None:
    """Read an HDF5 file in Keras' older layout, with named variables; None for any other file."""
    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path) as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            return None
        return dict(_group_arrays(root))


def _group_arrays(root: Any) -> Iterator[tuple[str, Any]]:
    for layer in map(_text, root.attrs["layer_names"]):
        for name in map(_text, root[layer].attrs["weight_names"]):
            # conv1_conv/kernel:0, or with a scope before it; Keras 3 writes kernel alone.
            yield f"{layer}/{name.split(':')[0].split('/')[-1]}", np.asarray(root[layer][name])


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _checkpoint_arrays(prefix: Path) -> Arrays:
    """Read a TensorFlow checkpoint of Keras 2, Keras 3 or TensorFlow 1, by the variables' names."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    try:
        reader = tf.train.load_checkpoint(str(prefix))
    except Exception as error:
        raise UserError(
            f"{prefix}: not a readable TensorFlow checkpoint: {str(error).splitlines()[0]}"
        ) from None
    keys = reader.get_variable_to_shape_map()
    if "_CHECKPOINTABLE_OBJECT_GRAPH" not in keys:
        return {key: reader.get_tensor(key) for key in keys if key != "global_step"}
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    arrays = {}
    for node in graph.nodes:
        for attribute in node.attributes:
            name = attribute.full_name.split(":")[0]
            key = attribute.checkpoint_key
            if key.endswith(_CHECKPOINT_VALUE) and "/" in name and "optimizer" not in key:
                arrays["/".join(name.split("/")[-2:])] = reader.get_tensor(key)
    return arrays
