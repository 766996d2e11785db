"""Pictures as the vision algorithms get them: MXNet's image RecordIO (.rec), folders with .lst files, streams of an augmented manifest.

    image record   u32 flag | f32 label | u64 id | u64 id2 | f32 x flag (labels, when flag > 0) | the encoded picture
    .lst line      index <tab> label ... <tab> path

Source: MXNet's im2rec; SageMaker Developer Guide, "Image Classification - MXNet", input/output interface.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from pilvi_algorithms.kit.errors import ClientError

ENDINGS = (".jpg", ".jpeg", ".png")
_MAGIC = 0xCED7230A
_HEAD = struct.Struct("<II")
_IMAGE_HEAD = struct.Struct("<IfQQ")
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is read when it is needed."""

    read: Callable[[], bytes]
    label: Any = None
    """Numbers of the .rec or .lst, or what the annotation says."""
    name: str = ""


# -- RecordIO -------------------------------------------------------------------------------------------------------------


class Records:
    """The records of a RecordIO file or stream, found once and read by place; a stream is first copied to disk."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        if not path.is_file():  # a FIFO can be read once only
            self._file = _copied(self._file)
        self._places = list(_places(self._file, path.name))
        self._read_at = _reader(self._file)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, number: int) -> bytes:
        parts = [self._read_at(start, length) for start, length in self._places[number]]
        # A picture that holds the magic number is cut there; joining puts it back.
        return struct.pack("<I", _MAGIC).join(parts)


def _copied(stream: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the pictures do
    with stream:
        while piece := stream.read(_COPY_BYTES):
            copy.write(piece)
    copy.flush()
    return copy  # type: ignore[return-value]


def _reader(file: BinaryIO) -> Callable[[int, int], bytes]:
    descriptor = file.fileno()
    return lambda start, length: os.pread(descriptor, length, start)


def _places(file: BinaryIO, name: str) -> Iterator[list[tuple[int, int]]]:
    """(start, length) of each record's parts."""
    at, end = 0, file.seek(0, 2)
    parts: list[tuple[int, int]] = []
    while at < end:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or _HEAD.unpack(head)[0] != _MAGIC:
            raise ClientError(f"The file {name} is not in RecordIO format.")
        word = _HEAD.unpack(head)[1]
        kind, length = word >> 29, word & ((1 << 29) - 1)
        if at + 8 + length > end:
            raise ClientError(f"The last record of {name} is cut off.")
        parts.append((at + 8, length))
        if kind in (0, 3):  # whole, or the last part
            yield parts
            parts = []
        at += 8 + (length + 3) // 4 * 4


def image_record(data: bytes) -> tuple[Any, bytes]:
    """(labels, encoded picture)"""
    if len(data) < _IMAGE_HEAD.size:
        raise ClientError("A record holds no picture.")
    count, label, _, _ = _IMAGE_HEAD.unpack_from(data)
    start = _IMAGE_HEAD.size + 4 * count
    labels = np.frombuffer(data, "<f4", count, _IMAGE_HEAD.size) if count else np.array([label], np.float32)
    return labels, data[start:]


def write_image_record(labels: Sequence[float], picture: bytes, number: int = 0) -> bytes:
    """One framed image record, as im2rec writes it."""
    many = len(labels) > 1
    body = _IMAGE_HEAD.pack(len(labels) if many else 0, 0.0 if many else float(labels[0]), number, 0)
    body += (np.asarray(labels, "<f4").tobytes() if many else b"") + picture
    cuts = [at for at in range(0, len(body) - 3, 4) if body[at : at + 4] == struct.pack("<I", _MAGIC)]
    starts, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(body)]
    out = b""
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        kind = 0 if not cuts else 1 if position == 0 else 3 if position == len(cuts) else 2
        out += _HEAD.pack(_MAGIC, kind << 29 | (end - start)) + body[start:end] + b"\0" * (-(end - start) % 4)
    return out


def from_rec(paths: Sequence[Path]) -> list[Picture]:
    """The pictures of .rec files or FIFOs."""
    found = []
    for path in paths:
        records = Records(path)
        for number in range(len(records)):
            labels, _ = image_record(records.read(number))
            found.append(Picture(_record_reader(records, number), labels, f"{path.name}#{number}"))
    return found


def _record_reader(records: Records, number: int) -> Callable[[], bytes]:
    return lambda: image_record(records.read(number))[1]


# -- folders and augmented manifests --------------------------------------------------------------------------------------


def from_list(folder: Path, lists: Sequence[Path]) -> list[Picture]:
    """The pictures below a folder that .lst files name."""
    found = []
    for path in lists:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip():
                continue
            parts = line.split("\t")
            try:
                labels = np.array([float(part) for part in parts[1:-1]], np.float32)
            except ValueError:
                labels = np.array([])
            if len(parts) < 3 or not len(labels):
                raise ClientError(f"Line {number} of {path.name} is not of the form index<tab>label<tab>path: {line[:100]}")
            picture = folder / parts[-1].strip().lstrip("/")
            if not picture.is_file():
                raise ClientError(
                    f"Line {number} of {path.name} names {parts[-1].strip()}, which is not in the channel {folder.name}."
                )
            found.append(Picture(picture.read_bytes, labels, parts[-1].strip()))
    return found


def from_manifest_stream(path: Path) -> list[Picture]:
    """The pictures of an augmented manifest in Pipe mode: a record with the picture, then one with its label, and so on."""
    records = Records(path)
    if len(records) % 2:
        raise ClientError("The augmented manifest needs two attributes a line: the picture's reference and its label.")
    found = []
    for number in range(0, len(records), 2):
        raw = records.read(number + 1)
        try:
            label = json.loads(raw)
        except ValueError:
            label = raw  # e.g. a mask
        found.append(Picture(_plain_reader(records, number), label, f"{path.name}#{number // 2}"))
    return found


def _plain_reader(records: Records, number: int) -> Callable[[], bytes]:
    return lambda: records.read(number)


def files_below(folder: Path, endings: Sequence[str] = ENDINGS) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in endings)


# -- pixels ---------------------------------------------------------------------------------------------------------------


class BadPicture(ValueError):
    """Bytes that are no picture."""


def decode(data: bytes, channels: int = 3) -> Image.Image:
    """RGB, or grey for one channel. Raises BadPicture."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.convert("RGB" if channels == 3 else "L")
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise BadPicture("Unable to decode the picture: it is neither JPEG nor PNG.") from error


def pixels(picture: Image.Image) -> Any:
    """float32 C x H x W around zero, the scale that the pre-trained network learned with."""
    values = np.asarray(picture, np.float32)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return (values - 127.0) / 128.0


def in_parallel(function: Callable[[Any], Any], items: Sequence[Any], pool: ThreadPoolExecutor | None) -> list[Any]:
    """Decoding happens outside the interpreter's lock, so threads help."""
    return list(pool.map(function, items)) if pool is not None and len(items) > 1 else [function(item) for item in items]
