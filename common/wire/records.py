"""Convert typed values to and from Flower's records; the only file that knows Flower's record keys.

A value travels in one record: its plain fields as one JSON text, and its arrays as one sequence of
bytes. Flower moves a message as a tree of objects, each in separate requests at every hop (a record
of four arrays would be nine objects). The type of a field decides how it travels.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import count, takewhile
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.support.text import printable
from fedtransfer.common.wire import texts
from fedtransfer.common.wire.protocol import VERSION, Arrays, Extra, ProtocolError, Task
from fedtransfer.common.wire.texts import Name, Text, Token

_LARGEST = 2**53  # beyond it float64 cannot hold every whole number
_LAYOUT = "layout"  # the arrays of each field, in order: [name, [[type, length, length, …], …]]
_ARRAYS = "arrays"  # the bytes of all arrays, one after the other
_ALIGNMENT = 8  # bytes; products of arrays that are not aligned take several times as long
# More go on in the records "1", "2", …: requests do not grow with the head, a failed one is cheap.
_PIECE = 5 * 2**20
# What may come next to a message: the hash of the newest line of the site's log that the sender
# has, and the renewal of a site's key.
LOG, RENEWAL = "log", "renewal"
_STAMPS = {LOG: re.compile(r"[0-9a-f]{64}"), RENEWAL: re.compile(r"[ -~]{1,2000}")}


def _whole(value: Any) -> int:
    if abs(number := int(value)) > _LARGEST:
        raise ValueError("a whole number beyond 2^53")
    return number


# Types that travel in the JSON text, with the function that reads them; of Counts, the loss.
_READERS: dict[Any, Any] = {
    Name: texts.name,
    Token: texts.token,
    Text: texts.text,
    int: _whole,
    float: float,
    tuple[Name, ...]: texts.names,
    tuple[Token, ...]: texts.tokens,
    tuple[float, ...]: lambda values: tuple(map(float, texts.few(values))),
    Mapping[Name, tuple[int, int, int]]: lambda values: {
        texts.name(k): (_whole(a), _whole(b), _whole(c)) for k, (a, b, c) in texts.few(values).items()
    },
    Counts: float,
}  # fmt: skip
_SINGLE = (NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8], NDArray[np.uint64])


class _Field(NamedTuple):
    """A field of a type, and how it travels."""

    name: str
    form: str  # ``plain`` or ``counts``; of arrays ``one``, ``several``, ``named``, ``group``
    read: Any  # the function that reads its part of the JSON text; None for arrays alone


@lru_cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_Field(field.name, *_form(hints[field.name])) for field in fields(kind))


def _form(hint: Any) -> tuple[str, Any]:
    if hint in _READERS:
        return "counts" if hint is Counts else "plain", _READERS[hint]
    forms = {"one": _SINGLE, "several": (tuple[Arrays, ...],), "named": (Extra,)}
    return next((form for form, hints in forms.items() if hint in hints), "group"), None


def pack(value: Any) -> RecordDict:
    """Convert a typed value to Flower records."""
    plain: dict[str, Any] = {}
    groups: dict[str, tuple[NDArray[Any], ...]] = {}
    if isinstance(value, SiteError):
        plain = {"code": value.code, "text": printable(value.text, texts.LENGTHS[Text])}
    else:
        for name, form, _ in _fields(type(value)):  # type: ignore[arg-type]
            content = getattr(value, name)
            if form == "plain":
                plain[name] = content
            elif form == "counts":
                plain[name] = float(content.loss)
                counts = np.stack([content.images, content.predicted, content.correct])
                groups[name] = (counts.astype(np.int32),)
            elif form == "one":
                groups[name] = (content,)
            elif form == "group":
                groups[name] = content
            else:
                several = content.items() if form == "named" else enumerate(content)
                groups |= {f"{name}/{key}": arrays for key, arrays in several}
    if groups:
        plain[_LAYOUT] = [
            [name, [[a.dtype.str, *a.shape] for a in arrays]] for name, arrays in groups.items()
        ]
    data = b"".join(part for arrays in groups.values() for array in arrays for part in _padded(array))
    first, *more = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)] or [b""]
    # One text for all plain fields: Flower spends more time on a key than on its value.
    text = json.dumps(plain, ensure_ascii=False, default=dict)
    head = ConfigRecord({"kind": type(value).__name__, "version": VERSION, "said": text, _ARRAYS: first})
    return RecordDict(
        {"head": head, **{str(i): ConfigRecord({_ARRAYS: piece}) for i, piece in enumerate(more, 1)}}
    )


def unpack(records: RecordDict, *kinds: type[Any]) -> Any:
    """Read a value of one of the types ``kinds`` from Flower records.

    Raises:
        ProtocolError: the records hold something else, are of another version, or are incomplete.
        SiteError: the records hold a site's refusal.
    """
    expected = " or ".join(kind.__name__ for kind in kinds)
    try:
        head = _record(records, "head")
        if head["version"] != VERSION:
            raise ProtocolError(
                f"speaks version {head['version']!r} of the protocol, expected {VERSION}; "
                "install the same fedtransfer on both sides"
            )
        plain = json.loads(str(head["said"]))
        if head["kind"] == SiteError.__name__:
            raise SiteError(texts.code(plain["code"]), texts.text(plain["text"]))
        kind = next((kind for kind in kinds if kind.__name__ == head["kind"]), None)
        if kind is None:
            raise ProtocolError(f"sent {head['kind']!r}, expected {expected}")
        if unknown := set(records) - set(_names(records)):
            raise ProtocolError(
                f"sent the records {sorted(unknown)} besides head and the pieces of its arrays"
            )
        return _build(kind, plain, b"".join(_pieces(records)))
    except (ProtocolError, SiteError):
        raise
    except Exception as error:  # NumPy and JSON raise many kinds for bytes that somebody made up
        raise ProtocolError(
            f"sent an incomplete or malformed {expected} ({type(error).__name__}: {error})"
        ) from None


def _names(records: RecordDict) -> Iterator[str]:
    yield "head"
    yield from takewhile(records.__contains__, map(str, count(1)))


def _record(records: RecordDict, name: str) -> ConfigRecord:
    record = records[name]
    if not isinstance(record, ConfigRecord):
        raise TypeError(f"{name} is of type {type(record).__name__}")
    return record


def _pieces(records: RecordDict) -> list[bytes]:
    return [_record(records, name)[_ARRAYS] for name in _names(records)]  # type: ignore[misc]


def _build(kind: type[Any], plain: dict[str, Any], data: bytes) -> Any:
    layout, of_kind = plain.pop(_LAYOUT, []), _fields(kind)  # type: ignore[arg-type]
    expected = {field.name for field in of_kind if field.form in ("plain", "counts")}
    if plain.keys() != expected:
        raise ProtocolError(f"sent the keys {sorted(plain)}, expected {sorted(expected)}")
    groups: dict[str, dict[str, tuple[NDArray[Any], ...]]] = {}
    end = 0
    for label, entries in layout:
        arrays = []
        for entry in entries:
            arrays.append(_array(entry, data, end))
            end += _padded_size(arrays[-1])
        name, _, key = texts.name(label).partition("/")
        groups.setdefault(name, {})[key] = tuple(arrays)
    if end != len(data):
        raise ValueError(f"{len(data)} bytes, of which the layout says {end}")
    if unknown := groups.keys() - {field.name for field in of_kind}:
        raise ValueError(f"arrays for {sorted(unknown)}")
    value = kind(**{f.name: _value(f, plain.get(f.name), groups.get(f.name, {})) for f in of_kind})
    if isinstance(value, Task) and value.weighting not in ("examples", "uniform"):
        raise ProtocolError(f"asked for weighting {value.weighting!r}, expected examples or uniform")
    return value


def _value(field: _Field, plain: Any, groups: dict[str, tuple[NDArray[Any], ...]]) -> Any:
    match field.form:
        case "plain":
            return field.read(plain)
        case "counts":
            return _counts(groups[""], field.read(plain))
        case "one":
            [array] = groups[""]
            return array
        case "several":
            return tuple(groups[str(i)] for i in range(len(groups)))
        case "named":
            return groups
    return groups[""] if groups else ()


def _counts(arrays: tuple[NDArray[Any], ...], loss: float) -> Counts:
    [array] = arrays
    if array.ndim != 2 or len(array) != 3 or array.dtype != np.int32:
        raise ProtocolError(
            f"sent counts of type {array.dtype} and shape {array.shape}, expected int32 (3, classes)"
        )
    images, predicted, correct = array.astype(np.int64)
    return Counts(images, predicted, correct, loss)


def _padded_size(array: NDArray[Any]) -> int:
    return -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT


def _padded(array: NDArray[Any]) -> tuple[memoryview, bytes]:
    """Return an array's bytes without a copy, and the zeros after them."""
    return np.ascontiguousarray(array).data, bytes(_padded_size(array) - array.nbytes)


def _array(entry: Sequence[Any], data: bytes, start: int) -> NDArray[Any]:
    """A read-only view of bytes as an array; NumPy refuses lengths below 0 or beyond the data."""
    dtype = np.dtype(str(entry[0]))
    if dtype.kind not in "iuf":
        raise ValueError(f"an array of type {entry[0]!r}")
    return np.ndarray(entry[1:], dtype, data, start)


def shapes(records: RecordDict) -> list[list[Any]]:
    """Return type and lengths of each array in packed records, in order: ``["<f4", 256, 3]``."""
    layout = json.loads(str(_record(records, "head")["said"])).get(_LAYOUT, [])
    return [entry for _, entries in layout for entry in entries]


def digest(records: RecordDict) -> str:
    """Return the SHA-256 of packed records, of plain fields and arrays, in hexadecimal digits."""
    hashed = hashlib.sha256(str(_record(records, "head")["said"]).encode())
    for piece in _pieces(records):
        hashed.update(piece)
    return hashed.hexdigest()


def refusal_code(records: RecordDict) -> str:
    """Return the code of the refusal that packed records hold; "" if they hold something else."""
    head = _record(records, "head")
    return str(json.loads(str(head["said"]))["code"]) if head["kind"] == SiteError.__name__ else ""


def stamp(records: RecordDict, kind: str, text: str) -> None:
    """Put a text of a kind, ``LOG`` or ``RENEWAL``, next to a message, outside its content."""
    if isinstance(head := records.get("head"), ConfigRecord):
        head[kind] = text


def stamped(records: RecordDict, kind: str) -> str:
    """Return the text of a kind that came with a message; "" if none did, or none of its form."""
    head = records.get("head")
    text = head.get(kind) if isinstance(head, ConfigRecord) else None
    return text if isinstance(text, str) and _STAMPS[kind].fullmatch(text) else ""


def array_bytes(records: RecordDict) -> int:
    """Return the number of bytes of arrays in records, whoever packed them; 0 if there are none."""
    return sum(
        len(piece)
        for record in records.values()
        if isinstance(record, ConfigRecord) and isinstance(piece := record.get(_ARRAYS), bytes)
    )


def content_bytes(message: Message) -> int:
    """Return the size of a message's content, serialized for the wire, in bytes.

    Flower's envelope of about 200 bytes is left out: its length differs from run to run with the
    random ids in it.
    """
    from flwr.common.serde import recorddict_to_proto

    return int(recorddict_to_proto(message.content).ByteSize())
