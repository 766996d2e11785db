"""The application/x-recordio-protobuf format: RecordIO frames around protobuf `Record` messages, read and written without a library.

    frame   u32 0xCED7230A | u32 length | message | padding to 4
    Record  features: map<string, Value> = 1    label: map<string, Value> = 2    metadata: string = 4
    Value   float32_tensor = 2 | float64_tensor = 3 | int32_tensor = 7 | bytes = 9
    Tensor  values: packed = 1    keys: packed uint64 = 2 (sparse)    shape: packed uint64 = 3
    Bytes   value: repeated bytes = 1    content_type: string = 2

Source: SageMaker Developer Guide, "Common data formats for training"; the protobuf wire format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAGIC = 0xCED7230A
_HEAD = struct.Struct("<II")
_LENGTH_MASK = (1 << 29) - 1

_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5
_DTYPES: dict[int, Any] = {2: np.dtype("<f4"), 3: np.dtype("<f8")}
_FLOAT32, _FLOAT64, _INT32, _BYTES = 2, 3, 7, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers, dense or (with keys and a shape) sparse."""

    values: Any
    """1-D array of float32, float64 or int32."""
    keys: Any = None
    """1-D array of positions in the flattened shape, or None."""
    shape: tuple[int, ...] = ()

    def dense(self) -> Any:
        if self.keys is None:
            return self.values
        out = np.zeros(int(np.prod(self.shape)) if self.shape else int(self.keys.max(initial=-1)) + 1, self.values.dtype)
        out[self.keys] = self.values
        return out


@dataclass(frozen=True, slots=True)
class Record:
    features: Mapping[str, Any] = field(default_factory=dict)
    """Name -> Tensor or bytes; the main one is `values`."""
    label: Mapping[str, Any] = field(default_factory=dict)
    metadata: str = ""


class BadRecord(ValueError):
    """Bytes that are not in the format."""


# -- frames ---------------------------------------------------------------------------------------------------------------


def frames(data: bytes) -> Iterator[memoryview]:
    """The messages one after the other."""
    view, at, end = memoryview(data), 0, len(data)
    while at < end:
        if end - at < 8:
            raise BadRecord("the last record is cut off")
        magic, length = _HEAD.unpack_from(view, at)
        if magic != MAGIC:
            raise BadRecord("a record does not begin with RecordIO's magic number")
        length &= _LENGTH_MASK
        if at + 8 + length > end:
            raise BadRecord("the last record is cut off")
        yield view[at + 8 : at + 8 + length]
        at += 8 + (length + 3) // 4 * 4


def framed(message: bytes) -> bytes:
    return _HEAD.pack(MAGIC, len(message)) + message + b"\0" * (-len(message) % 4)


# -- reading --------------------------------------------------------------------------------------------------------------


def read(data: bytes) -> Iterator[Record]:
    """The records. Raises BadRecord."""
    for message in frames(data):
        yield parse(message)


def parse(message: memoryview | bytes) -> Record:
    features: dict[str, Any] = {}
    label: dict[str, Any] = {}
    metadata = ""
    try:
        for number, value in _fields(memoryview(message)):
            if number == 1:
                _put(features, value)
            elif number == 2:
                _put(label, value)
            elif number == 4:
                metadata = bytes(value).decode()
    except (IndexError, struct.error, TypeError, ValueError) as error:
        raise BadRecord(f"a record is not a protobuf Record: {error}") from error
    return Record(features, label, metadata)


def _put(into: dict[str, Any], entry: memoryview) -> None:
    name, value = "", None
    for number, part in _fields(entry):
        if number == 1:
            name = bytes(part).decode()
        elif number == 2:
            value = _value(part)
    into[name] = value


def _value(message: memoryview) -> Any:
    for number, part in _fields(message):
        if number in (_FLOAT32, _FLOAT64, _INT32):
            return _tensor(part, number)
        if number == _BYTES:
            return b"".join(bytes(piece) for inner, piece in _fields(part) if inner == 1)
    return Tensor(np.zeros(0, np.float32))


def _tensor(message: memoryview, kind: int) -> Tensor:
    values: list[Any] = []
    keys: list[Any] = []
    shape: list[int] = []
    for number, part in _fields(message):
        if number == 1:
            values.append(_numbers(part, kind))
        elif number == 2:
            keys.append(_packed(part))
        elif number == 3:
            shape.extend(int(size) for size in _packed(part))
    dtype = _DTYPES.get(kind, np.dtype("<i4"))
    joined = np.concatenate(values) if values else np.zeros(0, dtype)
    return Tensor(joined, np.concatenate(keys) if keys else (np.zeros(0, np.int64) if shape and not values else None), tuple(shape))


def _numbers(part: Any, kind: int) -> Any:
    if (dtype := _DTYPES.get(kind)) is not None:
        if isinstance(part, int):  # a single unpacked number arrives as its raw bits
            return np.frombuffer(part.to_bytes(dtype.itemsize, "little"), dtype)
        return np.frombuffer(part, dtype)
    return _packed(part).astype(np.int32)


def _packed(part: Any) -> Any:
    """Packed varints as int64 (negative int32 values are written with ten bytes)."""
    if isinstance(part, int):
        return np.array([part & ((1 << 64) - 1)], np.uint64).astype(np.int64)
    raw = np.frombuffer(part, np.uint8)
    ends = np.flatnonzero(raw < 128)
    if len(ends) == len(raw):
        return raw.astype(np.int64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    return np.add.reduceat((raw & 127).astype(np.uint64) << (7 * place).astype(np.uint64), starts).astype(np.int64)


def _fields(view: memoryview) -> Iterator[tuple[int, Any]]:
    """(field number, content): the number for varints and fixed widths, the bytes for the rest."""
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at)
        wire = tag & 7
        if wire == _LENGTH:
            length, at = _varint(view, at)
            if at + length > end:
                raise BadRecord("a record is cut off")
            yield tag >> 3, view[at : at + length]
            at += length
        elif wire == _VARINT:
            value, at = _varint(view, at)
            yield tag >> 3, value
        elif wire in (_FOUR, _EIGHT):
            width = 4 if wire == _FOUR else 8
            yield tag >> 3, int.from_bytes(view[at : at + width], "little")
            at += width
        else:
            raise BadRecord(f"unknown wire type {wire}")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise BadRecord("a number is too long")


# -- many equal records at once -------------------------------------------------------------------------------------------


def read_dense(data: bytes) -> tuple[Any, Any] | None:
    """(features n x d, labels n x l or None) where all records are dense float tensors of one layout, else None.

    Writers of dense data give every record the same bytes but for the numbers, so the whole file is one array.
    """
    if len(data) < 8:
        return None
    magic, length = _HEAD.unpack_from(data, 0)
    stride = 8 + ((length & _LENGTH_MASK) + 3) // 4 * 4
    if magic != MAGIC or len(data) % stride or len(data) < stride:
        return None
    places = _dense_places(memoryview(data)[8 : 8 + length])
    if places is None:
        return None
    table = np.frombuffer(data, np.uint8).reshape(-1, stride)
    is_frame = np.ones(stride, bool)
    for _, start, size, _ in places:
        is_frame[8 + start : 8 + start + size] = False
    if len(table) > 1 and not (table[:, is_frame] == table[0, is_frame]).all():
        return None
    found = {role: np.ascontiguousarray(table[:, 8 + start : 8 + start + size]).view(dtype) for role, start, size, dtype in places}
    return (found[1], found.get(2)) if 1 in found else None


def _dense_places(message: memoryview) -> list[tuple[int, int, int, Any]] | None:
    """Where in a record the numbers of its one feature tensor (1) and its label (2) lie; None when it is not that simple."""
    base = _address(message)
    places: dict[int, tuple[int, int, int, Any]] = {}
    try:
        for role, entry in _fields(message):
            if role not in (1, 2) or role in places:
                return None
            for number, part in _fields(entry):
                if number == 1 and bytes(part) != b"values":
                    return None
                if number == 2:
                    for kind, tensor in _fields(part):
                        parts = list(_fields(tensor))
                        if kind not in _DTYPES or [inner for inner, _ in parts] != [1] or isinstance(parts[0][1], int):
                            return None
                        places[role] = (role, _address(parts[0][1]) - base, len(parts[0][1]), _DTYPES[kind])
    except (IndexError, ValueError):
        return None
    return list(places.values())


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0]) if len(view) else 0


# -- writing --------------------------------------------------------------------------------------------------------------


def write(records: Iterable[Record]) -> bytes:
    return b"".join(framed(serialized(record)) for record in records)


def serialized(record: Record) -> bytes:
    out = [_field(1, _entry(name, value)) for name, value in record.features.items()]
    out += [_field(2, _entry(name, value)) for name, value in record.label.items()]
    if record.metadata:
        out.append(_field(4, record.metadata.encode()))
    return b"".join(out)


def _entry(name: str, value: Any) -> bytes:
    return _field(1, name.encode()) + _field(2, _value_bytes(value))


def _value_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return _field(_BYTES, _field(1, value))
    tensor = value if isinstance(value, Tensor) else Tensor(np.atleast_1d(np.asarray(value)).ravel())
    numbers = tensor.values
    if numbers.dtype.kind in "iub":
        kind, packed = _INT32, b"".join(_varint_bytes(int(number) & ((1 << 64) - 1)) for number in numbers)
    elif numbers.dtype == np.float64:
        kind, packed = _FLOAT64, numbers.astype("<f8").tobytes()
    else:
        kind, packed = _FLOAT32, numbers.astype("<f4").tobytes()
    body = _field(1, packed)
    if tensor.keys is not None:
        body += _field(2, b"".join(_varint_bytes(int(key)) for key in tensor.keys))
    if tensor.shape:
        body += _field(3, b"".join(_varint_bytes(size) for size in tensor.shape))
    return _field(kind, body)


def _field(number: int, content: bytes) -> bytes:
    return _varint_bytes(number << 3 | _LENGTH) + _varint_bytes(len(content)) + content


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
