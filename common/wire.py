"""Typed values to and from Flower's records; the only file that knows Flower's record keys.

What a value says travels as one JSON text, its arrays in one record of raw bytes. How a field travels follows from its
type.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from itertools import islice
from typing import Any, get_type_hints

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from common.errors import SiteError
from common.head import Arrays
from common.metrics import Counts
from common.protocol import VERSION, Extra, ProtocolError, Task

_RAW = "fedtransfer.little-endian"  # how the bytes of arrays are laid out
_LARGEST = 2**53  # beyond it float64 and int64 lose count
_LAYOUT = "layout"  # which field has how many arrays, in order


def _whole(told: Any) -> int:
    if abs(number := int(told)) > _LARGEST:
        raise ValueError("a whole number beyond 2^53")
    return number


# Types whose values are said, with what reads them back; of Counts the loss is said.
_SAID: dict[Any, Any] = {
    str: str,
    int: _whole,
    float: float,
    tuple[str, ...]: lambda told: tuple(map(str, told)),
    tuple[float, ...]: lambda told: tuple(map(float, told)),
    Mapping[str, tuple[int, int, int]]: lambda told: {str(k): (_whole(a), _whole(b), _whole(c)) for k, (a, b, c) in told.items()},
    Counts: float,
}  # fmt: skip
_SINGLE = (NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8], NDArray[np.uint64])
_SEVERAL = (tuple[Arrays, ...], Extra)  # groups of arrays, by number or by name


@lru_cache
def _types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def pack(value: Any) -> RecordDict:
    """Turn a typed value into Flower records."""
    said: dict[str, Any] = {}
    groups: dict[str, tuple[NDArray[Any], ...]] = {}
    if isinstance(value, SiteError):
        said = {"code": value.code, "text": value.text}
    else:
        for name, hint in _types(type(value)).items():  # type: ignore[arg-type]
            content = getattr(value, name)
            if hint in _SAID:
                said[name] = float(content.loss) if hint is Counts else content
            groups |= dict(_groups(name, hint, content))
    if groups:
        said[_LAYOUT] = [[name, len(arrays)] for name, arrays in groups.items()]
    # One text for all that is said: Flower spends more time on a key than on the words behind it.
    head: dict[str, Any] = {"kind": type(value).__name__, "version": VERSION}
    head["said"] = json.dumps(said, ensure_ascii=False, default=dict)
    records = RecordDict({"head": ConfigRecord(head)})
    arrays = [array for group in groups.values() for array in group]
    if arrays:
        records["arrays"] = ArrayRecord({str(i): _array(array) for i, array in enumerate(arrays)})
    return records


def _groups(name: str, hint: Any, content: Any) -> Iterator[tuple[str, tuple[NDArray[Any], ...]]]:
    if hint is Counts:
        yield name, (np.stack([content.images, content.predicted, content.correct]).astype(np.int32),)
    elif hint in _SINGLE:
        yield name, (content,)
    elif hint in _SEVERAL:
        several = content.items() if isinstance(content, Mapping) else enumerate(content)
        yield from ((f"{name}/{key}", arrays) for key, arrays in several)
    elif hint not in _SAID:
        yield name, content


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
        if unknown := set(records) - {"head", "arrays"}:
            raise ProtocolError(f"sent the records {sorted(unknown)} besides head and arrays")
        received = records.array_records["arrays"] if "arrays" in records else {}
        if list(received) != [str(i) for i in range(len(received))]:
            raise ProtocolError(f"sent arrays named {sorted(received)}, expected 0, 1, … in order")
        return _put_together(kind, said, [_ndarray(array) for array in received.values()])
    except (ProtocolError, SiteError):
        raise
    except Exception as error:  # what NumPy and JSON make of bytes that somebody thought up is without end
        raise ProtocolError(f"sent an incomplete or malformed {expected} ({type(error).__name__}: {error})") from None


def _put_together(kind: type[Any], said: dict[str, Any], arrays: list[NDArray[Any]]) -> Any:
    types = _types(kind)  # type: ignore[arg-type]
    layout = said.pop(_LAYOUT, [])
    if (found := set(said)) != (wanted := {name for name, hint in types.items() if hint in _SAID}):
        raise ProtocolError(f"sent the keys {sorted(found)}, expected {sorted(wanted)}")
    groups: dict[str, dict[str, tuple[NDArray[Any], ...]]] = {}
    rest = iter(arrays)
    for label, number in layout:
        name, _, key = str(label).partition("/")
        groups.setdefault(name, {})[key] = tuple(islice(rest, int(number)))
    if next(rest, None) is not None or set(groups) - set(types) or len(arrays) != sum(int(n) for _, n in layout):
        raise ValueError(f"{len(arrays)} arrays, laid out as {layout}")
    value = kind(**{name: _field(hint, said.get(name), groups.get(name, {})) for name, hint in types.items()})
    if isinstance(value, Task) and value.weighting not in ("examples", "uniform"):
        raise ProtocolError(f"asked for weighting {value.weighting!r}, expected examples or uniform")
    return value


def _field(hint: Any, told: Any, groups: dict[str, tuple[NDArray[Any], ...]]) -> Any:
    if hint is Counts:
        return _counts(groups[""], float(told))
    if hint in _SAID:
        return _SAID[hint](told)
    if hint == Extra:
        return groups
    if hint in _SEVERAL:
        return tuple(groups[str(i)] for i in range(len(groups)))
    if hint in _SINGLE:
        [array] = groups[""]
        return array
    return groups[""] if groups else ()


def _counts(arrays: tuple[NDArray[Any], ...], loss: float) -> Counts:
    [array] = arrays
    if array.ndim != 2 or len(array) != 3 or array.dtype != np.int32:
        raise ProtocolError(f"sent counts of type {array.dtype} and shape {array.shape}, expected int32 (3, classes)")
    images, predicted, correct = array.astype(np.int64)
    return Counts(images, predicted, correct, loss)


def _array(array: NDArray[Any]) -> Array:
    """Pack an array as its bytes: Flower's own way, a .npy file for each, takes longer than many a site's training."""
    return Array(array.dtype.str, array.shape, _RAW, array.tobytes())


def _ndarray(array: Array) -> NDArray[Any]:
    if array.stype != _RAW or np.dtype(array.dtype).hasobject or any(length < 0 for length in array.shape):
        raise ValueError(f"an array of kind {array.stype!r}, type {array.dtype!r} and shape {tuple(array.shape)}")
    return np.frombuffer(array.data, array.dtype).reshape(array.shape)


def digest(records: RecordDict) -> str:
    """Return the SHA-256 of what records say and of their arrays, in hexadecimal digits."""
    said = str(records.config_records["head"]["said"]).encode()
    arrays = records.array_records["arrays"].values() if "arrays" in records else ()
    return hashlib.sha256(said + b"".join(array.data for array in arrays)).hexdigest()


def content_bytes(message: Message) -> int:
    """Return the size of what a message carries, as serialized for the wire, in bytes.

    Flower's envelope of some 200 bytes is left out: its length differs from run to run with the random ids in it.
    """
    from flwr.common.serde import recorddict_to_proto

    return int(recorddict_to_proto(message.content).ByteSize())
