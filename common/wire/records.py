"""Typed values to and from Flower's records; the only file that knows Flower's record keys.

What a value says travels as one JSON text, its arrays as one run of bytes beside it, in one record: Flower moves a
message as a tree of objects, each in requests of its own at every hop (a record of four arrays would be nine of them).
How a field travels follows from its type.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import count, takewhile
from typing import Any, get_type_hints

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.wire.protocol import VERSION, Arrays, Extra, ProtocolError, Task

_LARGEST = 2**53  # beyond it float64 and int64 lose count
_LAYOUT = "layout"  # which field has which arrays, in order: [name, [[type, length, length, …], …]]
_ARRAYS = "arrays"  # the bytes of all arrays, one after the other
_ALIGNED = 8  # each array starts at a multiple of so many bytes: products of others take several times as long
# Longer bytes go on in the records "1", "2", …: no HTTP request grows with the head, nor is much sent again when one fails.
_PIECE = 5 * 2**20


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
        said[_LAYOUT] = [[name, [[a.dtype.str, *a.shape] for a in arrays]] for name, arrays in groups.items()]
    data = b"".join(_padded(array) for arrays in groups.values() for array in arrays)
    first, *more = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)] or [b""]
    # One text for all that is said: Flower spends more time on a key than on the words behind it.
    text = json.dumps(said, ensure_ascii=False, default=dict)
    head = ConfigRecord({"kind": type(value).__name__, "version": VERSION, "said": text, _ARRAYS: first})
    return RecordDict({"head": head, **{str(i): ConfigRecord({_ARRAYS: piece}) for i, piece in enumerate(more, 1)}})


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
        if unknown := set(records) - set(_names(records)):
            raise ProtocolError(f"sent the records {sorted(unknown)} besides head and the pieces of its arrays")
        return _put_together(kind, said, b"".join(_pieces(records)))
    except (ProtocolError, SiteError):
        raise
    except Exception as error:  # what NumPy and JSON make of bytes that somebody thought up is without end
        raise ProtocolError(f"sent an incomplete or malformed {expected} ({type(error).__name__}: {error})") from None


def _names(records: RecordDict) -> Iterator[str]:
    yield "head"
    yield from takewhile(records.__contains__, map(str, count(1)))


def _pieces(records: RecordDict) -> list[bytes]:
    told = records.config_records
    return [told[name][_ARRAYS] for name in _names(records)]  # type: ignore[misc]


def _put_together(kind: type[Any], said: dict[str, Any], data: bytes) -> Any:
    types = _types(kind)  # type: ignore[arg-type]
    layout = said.pop(_LAYOUT, [])
    if (found := set(said)) != (wanted := {name for name, hint in types.items() if hint in _SAID}):
        raise ProtocolError(f"sent the keys {sorted(found)}, expected {sorted(wanted)}")
    groups: dict[str, dict[str, tuple[NDArray[Any], ...]]] = {}
    end = 0
    for label, told in layout:
        arrays = []
        for one in told:
            arrays.append(_array(one, data, end))
            end += _room(arrays[-1])
        name, _, key = str(label).partition("/")
        groups.setdefault(name, {})[key] = tuple(arrays)
    if end != len(data):
        raise ValueError(f"{len(data)} bytes, of which the layout says {end}")
    if unknown := set(groups) - set(types):
        raise ValueError(f"arrays for {sorted(unknown)}")
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


def _room(array: NDArray[Any]) -> int:
    return -(-array.nbytes // _ALIGNED) * _ALIGNED


def _padded(array: NDArray[Any]) -> bytes:
    return array.tobytes().ljust(_room(array), b"\0")


def _array(told: Sequence[Any], data: bytes, start: int) -> NDArray[Any]:
    """Return a read-only view of bytes as an array; NumPy refuses lengths that are negative or more than there is."""
    dtype = np.dtype(str(told[0]))
    if dtype.kind not in "iuf":
        raise ValueError(f"an array of type {told[0]!r}")
    return np.ndarray(told[1:], dtype, data, start)


def shapes(records: RecordDict) -> list[list[Any]]:
    """Return the type and the lengths of each array in packed records, in order: ``["<f4", 256, 3]``."""
    layout = json.loads(str(records.config_records["head"]["said"])).get(_LAYOUT, [])
    return [one for _, told in layout for one in told]


def digest(records: RecordDict) -> str:
    """Return the SHA-256 of what packed records say and of the bytes of their arrays, in hexadecimal digits."""
    hashed = hashlib.sha256(str(records.config_records["head"]["said"]).encode())
    for piece in _pieces(records):
        hashed.update(piece)
    return hashed.hexdigest()


def array_bytes(records: RecordDict) -> int:
    """Return how many bytes of arrays records carry, whoever packed them: 0 where none are."""
    return sum(
        len(piece) for record in records.config_records.values() if isinstance(piece := record.get(_ARRAYS), bytes)
    )


def content_bytes(message: Message) -> int:
    """Return the size of what a message carries, as serialized for the wire, in bytes.

    Flower's envelope of some 200 bytes is left out: its length differs from run to run with the random ids in it.
    """
    from flwr.common.serde import recorddict_to_proto

    return int(recorddict_to_proto(message.content).ByteSize())
