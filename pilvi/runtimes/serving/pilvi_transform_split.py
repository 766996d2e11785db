"""Files into records, records into requests.

None       the whole file is one record
Line       a line
RecordIO   MXNet's frames, as they are
TFRecord   TensorFlow's frames, as they are
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20
_MAGIC = 0xCED7230A


class Bad(Exception):
    """The file cannot be split so."""


def batches(path: Path, split: str, is_multi: bool, payload_bytes: int) -> Iterator[bytes]:
    """Bodies of requests, each as large as may be. Lines are not looked at one by one where many go together."""
    if split == "Line" and is_multi and payload_bytes:
        yield from _blocks_of_lines(path, payload_bytes)
        return
    for group in grouped(path, split, is_multi, payload_bytes):
        yield b"\n".join(group) + b"\n" if split == "Line" and is_multi else b"".join(group)


def grouped(path: Path, split: str, is_multi: bool, payload_bytes: int) -> Iterator[list[bytes]]:
    """Records that go together. Lines come without their ends."""
    group: list[bytes] = []
    size = 0
    for record in _records(path, split):
        cost = len(record) + (1 if split == "Line" else 0)
        if payload_bytes and cost > payload_bytes:
            raise Bad(_too_large(split, payload_bytes))
        if group and (not is_multi or split == "None" or (payload_bytes and size + cost > payload_bytes)):
            yield group
            group, size = [], 0
        group.append(record)
        size += cost
    if group:
        yield group


def _records(path: Path, split: str) -> Iterator[bytes]:
    if split == "None":
        if path.stat().st_size:
            yield path.read_bytes()
        return
    with path.open("rb") as file:
        if split == "Line":
            for line in file:
                if record := line.rstrip(b"\r\n"):
                    yield record
        else:
            yield from _recordio(file) if split == "RecordIO" else _tfrecord(file)


def _blocks_of_lines(path: Path, payload_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        rest = b""
        while True:
            block = file.read(payload_bytes - len(rest))
            data = rest + block
            if not block:
                if data.strip(b"\r\n"):
                    yield data if data.endswith(b"\n") else data + b"\n"
                return
            end = data.rfind(b"\n") + 1
            if end == 0:
                if len(data) >= payload_bytes:
                    raise Bad(_too_large("Line", payload_bytes))
                rest = data
                continue
            body, rest = data[:end], data[end:]
            if body.strip(b"\r\n"):
                yield body


def _recordio(file: BinaryIO) -> Iterator[bytes]:
    while head := file.read(8):
        if len(head) < 8 or struct.unpack("<I", head[:4])[0] != _MAGIC:
            raise Bad("The file is not in RecordIO format.")
        length = struct.unpack("<I", head[4:])[0] & ((1 << 29) - 1)
        padded = (length + 3) // 4 * 4
        body = file.read(padded)
        if len(body) < padded:
            raise Bad("The file's last RecordIO record is cut off.")
        yield head + body


def _tfrecord(file: BinaryIO) -> Iterator[bytes]:
    while head := file.read(12):
        if len(head) < 12:
            raise Bad("The file is not in TFRecord format.")
        length = struct.unpack("<Q", head[:8])[0]
        body = file.read(length + 4)
        if len(body) < length + 4:
            raise Bad("The file's last TFRecord record is cut off.")
        yield head + body


def _too_large(split: str, payload_bytes: int) -> str:
    what = "The file is" if split == "None" else "A record is"
    return f"{what} larger than MaxPayloadInMB ({payload_bytes >> 20} MB)."
