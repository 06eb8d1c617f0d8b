"""What travels between server and sites, as typed values; the only file that knows Flower's record keys.

Replies carry sums (n · delta, n, counts by class), so totals are plain sums over sites. A site's refusal is a code and
a short text of our own; the text of any other exception stays at the site, since it could name a patient.

Each message is the method's payload (the head with its class names, the update, counts of 24 bytes a class and split)
and at most 2 KB around it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from common.errors import SiteError
from common.head import Arrays
from common.metrics import Counts

VERSION = 3
_RAW = "fedtransfer.little-endian"  # how the bytes of arrays are laid out
QUERY, TRAIN, EVALUATE, FINISH = "query", "train", "evaluate", "evaluate.finish"  # Flower message types
KINDS = (QUERY, TRAIN, EVALUATE, FINISH)


# What a message of each kind says, besides its arrays; nothing else is let in.
_SCORES = {"round", "fingerprint", "classes", "losses"}
_KEYS = {
    "Query": {"backbone", "resolution", "fingerprint", "classes"},
    "Preparing": {"done", "total"},
    "Description": {"images", "unreadable", "partition"},
    "Task": {"site", "round", "classes", "weighting"},
    "Scores": _SCORES,
    "Update": _SCORES | {"examples"},
    "Confusion": _SCORES,
}


class ProtocolError(Exception):
    """A message that is not what this version of the protocol sends; the text says in what."""


@dataclass(frozen=True)
class Query:
    """Asks a site what it has. A site whose backbone differs refuses.

    Attributes:
        backbone, resolution, fingerprint: what the site must have.
        classes: the class names that the run declares; a site with another one refuses. Empty: what sites have counts.
    """

    backbone: str
    resolution: int
    fingerprint: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preparing:
    """A site's answer while its features are not all there yet: it is to be asked again.

    Attributes:
        done, total: images that went through the backbone so far, and those that must (0 while it looks).
    """

    done: int
    total: int


@dataclass(frozen=True)
class Description:
    """A site's answer: images by class name and split, and what it could not read.

    Attributes:
        images: class name → images for (train, validation, test).
        unreadable: images that were left out.
        partition: in a simulation, the name of the prepared site that it works for; "" where the node has a name.
    """

    images: Mapping[str, tuple[int, int, int]]
    unreadable: int
    partition: str = ""


@dataclass(frozen=True)
class Task:
    """A head to work with: to score and train in a round, only to score, or to keep as the run's result.

    Attributes:
        site: the name by which the server knows the site; it keys the site's random draws.
        round: the round it belongs to.
        classes: names of the C classes, in the order of the head's columns.
        head: the head's arrays.
        weighting: what the update is to be multiplied by: ``examples``, the number of training images, or ``uniform``, 1.
    """

    site: str
    round: int
    classes: tuple[str, ...]
    head: Arrays
    weighting: str = "examples"


@dataclass(frozen=True)
class Scores:
    """How the head that a site was sent did on its images.

    Attributes:
        round: the round it belongs to.
        fingerprint: of the site's backbone.
        classes: digest of the class names that its numbers are in the order of (``classes_digest``).
        validation: counts on the site's validation images.
        test: counts on its test images.
    """

    round: int
    fingerprint: str
    classes: str
    validation: Counts
    test: Counts


@dataclass(frozen=True)
class Update(Scores):
    """Scores and the outcome of training.

    Attributes:
        examples: n, the site's training images.
        total: weight · (head after - head before), array by array.
    """

    examples: int
    total: Arrays = field(default=())


@dataclass(frozen=True)
class Confusion(Scores):
    """The closing scores.

    Attributes:
        matrix: (C, C) int64, test images by true class (rows) and predicted class.
    """

    matrix: NDArray[np.int64]


def pack(value: Any) -> RecordDict:
    """Turn a typed value into Flower records."""
    kind = "SiteError" if isinstance(value, SiteError) else type(value).__name__
    said: dict[str, Any] = {}
    arrays: Sequence[NDArray[Any]] = ()
    if isinstance(value, SiteError):
        said = {"code": value.code, "text": value.text}
    elif isinstance(value, Query):
        said = {"backbone": value.backbone, "resolution": value.resolution, "fingerprint": value.fingerprint}
        said["classes"] = value.classes
    elif isinstance(value, Preparing):
        said = {"done": value.done, "total": value.total}
    elif isinstance(value, Description):
        said = {"images": dict(value.images), "unreadable": value.unreadable, "partition": value.partition}
    elif isinstance(value, Task):
        said = {"site": value.site, "round": value.round, "classes": value.classes, "weighting": value.weighting}
        arrays = value.head
    elif isinstance(value, Scores):
        said = {"round": value.round, "fingerprint": value.fingerprint, "classes": value.classes}
        said |= {"losses": [float(value.validation.loss), float(value.test.loss)]}
        arrays = [np.stack([_counts_array(value.validation), _counts_array(value.test)])]
        if isinstance(value, Update):
            said["examples"] = value.examples
            arrays = [*arrays, *value.total]
        if isinstance(value, Confusion):
            arrays = [*arrays, value.matrix]
    else:
        raise TypeError(f"{type(value).__name__} does not travel")
    # One text for all that is said: Flower spends more time on a key than on the words behind it.
    head: dict[str, Any] = {"kind": kind, "version": VERSION, "said": json.dumps(said, ensure_ascii=False)}
    records = RecordDict({"head": ConfigRecord(head)})
    if arrays:
        records["arrays"] = ArrayRecord({str(i): _array(array) for i, array in enumerate(arrays)})
    return records


def unpack(records: RecordDict, *kinds: type[Any]) -> Any:
    """Read a value of one of the types ``kinds`` from Flower records.

    Raises:
        ProtocolError: the records hold something else, of another version, or incomplete.
        SiteError: the records hold a site's refusal.
    """
    expected = " or ".join(kind.__name__ for kind in kinds)
    try:
        head = records.config_records["head"]
        if head["version"] != VERSION:
            raise ProtocolError(
                f"speaks version {head['version']!r} of the protocol, expected {VERSION}; install the same fedtransfer on both sides"
            )
        said = json.loads(str(head["said"]))
        if head["kind"] == "SiteError":
            raise SiteError(str(said["code"]), str(said["text"]))
        kind = next((kind for kind in kinds if kind.__name__ == head["kind"]), None)
        if kind is None:
            raise ProtocolError(f"sent {head['kind']!r}, expected {expected}")
        if (found := set(said)) != _KEYS[kind.__name__]:
            raise ProtocolError(f"sent the keys {sorted(found)}, expected {sorted(_KEYS[kind.__name__])}")
        if unknown := set(records) - {"head", "arrays"}:
            raise ProtocolError(f"sent the records {sorted(unknown)} besides head and arrays")
        received = records.array_records["arrays"] if "arrays" in records else {}
        if list(received) != [str(i) for i in range(len(received))]:
            raise ProtocolError(f"sent arrays named {sorted(received)}, expected 0, 1, … in order")
        arrays = [_ndarray(array) for array in received.values()]
        return _unpack(kind, said, arrays)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise ProtocolError(f"sent an incomplete or malformed {expected} ({type(error).__name__}: {error})") from None


def _unpack(kind: type[Any], said: Any, arrays: list[NDArray[Any]]) -> Any:
    if kind is Query:
        classes = tuple(map(str, said["classes"]))
        return Query(str(said["backbone"]), int(said["resolution"]), str(said["fingerprint"]), classes)
    if kind is Preparing:
        return Preparing(int(said["done"]), int(said["total"]))
    if kind is Description:
        images = {str(name): (int(a), int(b), int(c)) for name, (a, b, c) in said["images"].items()}
        return Description(images, int(said["unreadable"]), str(said["partition"]))
    if kind is Task:
        if said["weighting"] not in ("examples", "uniform"):
            raise ProtocolError(f"asked for weighting {said['weighting']!r}, expected examples or uniform")
        classes = tuple(map(str, said["classes"]))
        return Task(str(said["site"]), int(said["round"]), classes, tuple(arrays), str(said["weighting"]))
    counts, (validation_loss, test_loss) = arrays[0], said["losses"]
    if counts.ndim != 3 or counts.shape[:2] != (2, 3) or counts.dtype != np.int32:
        raise ProtocolError(
            f"sent counts of type {counts.dtype} and shape {counts.shape}, expected int32 (2, 3, classes)"
        )
    stated = (int(said["round"]), str(said["fingerprint"]), str(said["classes"]))
    scores = (*stated, _counts(counts[0], validation_loss), _counts(counts[1], test_loss))
    if kind is not Update and len(arrays) != (2 if kind is Confusion else 1):
        raise ProtocolError(f"sent {len(arrays)} arrays with {kind.__name__}")
    if kind is Update:
        return Update(*scores, int(said["examples"]), tuple(arrays[1:]))
    if kind is Confusion:
        return Confusion(*scores, arrays[1])
    return Scores(*scores)


def _array(array: NDArray[Any]) -> Array:
    """Pack an array as its bytes: Flower's own way, a .npy file for each, takes longer than many a site's training."""
    return Array(array.dtype.str, array.shape, _RAW, array.tobytes())


def _ndarray(array: Array) -> NDArray[Any]:
    if array.stype != _RAW or np.dtype(array.dtype).hasobject or any(length < 0 for length in array.shape):
        raise ValueError(f"an array of kind {array.stype!r}, type {array.dtype!r} and shape {tuple(array.shape)}")
    return np.frombuffer(array.data, array.dtype).reshape(array.shape)


def _counts_array(counts: Counts) -> NDArray[np.int32]:
    return np.stack([counts.images, counts.predicted, counts.correct]).astype(np.int32)


def _counts(array: NDArray[np.int32], loss: float) -> Counts:
    images, predicted, correct = array.astype(np.int64)
    return Counts(images, predicted, correct, float(loss))


def weight_of(weighting: str, examples: int) -> int:
    """Return what a site with so many training images counts for."""
    return examples if weighting == "examples" else 1


def classes_digest(classes: Sequence[str]) -> str:
    """Return 16 hexadecimal digits that stand for class names in their order."""
    return hashlib.sha256(json.dumps(list(classes)).encode()).hexdigest()[:16]


def content_bytes(message: Message) -> int:
    """Return the size of what a message carries, as serialized for the wire, in bytes.

    Flower's envelope of some 200 bytes is left out: its length differs from run to run with the random ids in it.
    """
    from flwr.common.serde import recorddict_to_proto

    return int(recorddict_to_proto(message.content).ByteSize())
