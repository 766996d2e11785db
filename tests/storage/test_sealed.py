"""Sealed blobs: nothing readable on the disk, nothing altered passes, and both kinds of blobs live side by side."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pilvi.core.errors import Unavailable
from pilvi.storage.blobs.files import FileBlobs
from pilvi.storage.records import PutBody, new_body_name
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.storage.sealed import CHUNK_BYTES, HEADER_BYTES, Keyring, PlainBlobs, SealedBlobs
from pilvi.testing.contracts.blobs import pattern, store_bytes

STEP = CHUNK_BYTES + 16


class Room:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = FileBlobs(folder / "blobs")
        self.keyring = Keyring(folder / "keys" / "master.key")
        self.blobs = SealedBlobs(self.files, self.keyring)

    def reopened(self) -> SealedBlobs:
        return SealedBlobs(self.files, Keyring(self.folder / "keys" / "master.key"))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_search_of_the_data_directory_finds_no_plaintext(room: Room) -> None:
    known = b"this sentence is known to whoever searches the disk"
    store = SqliteRecords(room.folder / "records.db")
    name = new_body_name()
    store.write(PutBody(name, room.keyring.seal(known * 20, name.encode())))
    for size in (1, 3000, 100_000):
        store_bytes(room.blobs, known * size)

    def searched() -> None:
        for path in room.folder.rglob("*"):
            if path.is_file():
                assert known[:16] not in path.read_bytes(), path

    searched()
    store.close()
    searched()
    assert room.keyring.unseal(stored_body(room.folder, name), name.encode()) == known * 20


def stored_body(folder: Path, name: str) -> bytes:
    store = SqliteRecords(folder / "records.db")
    data = store.body(name)
    store.close()
    assert data is not None
    return data


def test_a_restart_reads_what_was_sealed(room: Room) -> None:
    data = pattern(300_000)
    name = store_bytes(room.blobs, data)
    assert room.reopened().read(name, 100_000, 200_000) == data[100_000:200_000]


def test_a_range_reads_only_its_chunks(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pattern(10 * CHUNK_BYTES)
    name = store_bytes(room.blobs, data)
    room.blobs.read(name, 0, 1)
    read: list[tuple[int, int | None]] = []
    inner = room.files.read

    def listening(name: str, start: int = 0, end: int | None = None) -> bytes:
        read.append((start, end))
        return inner(name, start, end)

    monkeypatch.setattr(room.files, "read", listening)
    assert room.blobs.read(name, 5 * CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 100) == data[5 * CHUNK_BYTES + 1 : 5 * CHUNK_BYTES + 100]
    assert read == [(HEADER_BYTES + 5 * STEP, HEADER_BYTES + 6 * STEP)]


def flip(place: int) -> Callable[[bytes], bytes]:
    return lambda stored: stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "magic": flip(0),
    "chunk size": flip(13),
    "wrapped key": flip(60),
    "first chunk": flip(HEADER_BYTES),
    "last tag": flip(-1),
    "cut at a chunk": lambda stored: stored[: HEADER_BYTES + 2 * STEP],
    "cut in a chunk": lambda stored: stored[:-7],
    "cut in the header": lambda stored: stored[:50],
    "only the header": lambda stored: stored[:HEADER_BYTES],
    "empty": lambda _: b"",
    "longer": lambda stored: stored + b"x",
    "swapped chunks": lambda stored: (
        stored[:HEADER_BYTES]
        + stored[HEADER_BYTES + STEP : HEADER_BYTES + 2 * STEP]
        + stored[HEADER_BYTES : HEADER_BYTES + STEP]
        + stored[HEADER_BYTES + 2 * STEP :]
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed(room: Room, damage: str) -> None:
    name = store_bytes(room.blobs, pattern(3 * CHUNK_BYTES - 1000))
    path = Path(room.files.place(name))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(Unavailable, match="damaged"):
        room.reopened().read(name)
    with pytest.raises(Unavailable, match="damaged"):
        list(room.reopened().stream(name))


def test_a_blob_under_another_name_does_not_open(room: Room) -> None:
    one, two = store_bytes(room.blobs, b"one"), store_bytes(room.blobs, b"two")
    shutil.copy(room.files.place(one), room.files.place(two))
    with pytest.raises(Unavailable, match="damaged"):
        room.reopened().read(two)


def test_plain_and_sealed_blobs_live_side_by_side(room: Room) -> None:
    plain = PlainBlobs(room.files, room.keyring)
    data = pattern(200_000)
    sealed_name, plain_name = store_bytes(room.blobs, data), store_bytes(plain, data)
    assert Path(room.files.place(plain_name[:-1])).read_bytes().startswith(data)
    assert plain.path(plain_name) is None
    assert plain.path(sealed_name) is None
    assert room.blobs.path(sealed_name) is None
    for blobs in (plain, room.blobs):
        assert sorted(blobs.names()) == sorted([sealed_name, plain_name])
        for name in (sealed_name, plain_name):
            assert blobs.read(name, 1000, 150_000) == data[1000:150_000]
            assert b"".join(blobs.stream(name)) == data
            assert blobs.size(name) == 200_000
    assert plain.sweep([plain_name, sealed_name]) == 0
    room.blobs.delete(plain_name)
    assert room.blobs.sweep([sealed_name]) == 0
    with pytest.raises(Unavailable, match="without the keyring"):
        PlainBlobs(room.files).read(sealed_name)


def test_no_descriptor_stays_open(room: Room) -> None:
    def blobs_open() -> list[str]:
        """Files of this room that the process holds open; other threads open and close theirs meanwhile."""
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                found.append(os.readlink(entry))
        return [target for target in found if target.startswith(str(room.folder))]

    name = store_bytes(room.blobs, pattern(500_000))
    list(room.blobs.stream(name))
    left = room.blobs.stream(name)
    next(left)
    left.close()  # type: ignore[attr-defined]
    room.blobs.stream(name)
    room.blobs.create().write(b"left")
    assert blobs_open() == []


@pytest.mark.parametrize(
    ("start", "end"), [(0, 10), (CHUNK_BYTES - 5, CHUNK_BYTES + 5), (2 * CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 77)]
)
def test_short_ranges_are_read_now_from_memory_alone(room: Room, start: int, end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pattern(2 * CHUNK_BYTES + 77)
    name = store_bytes(room.blobs, data)
    assert room.blobs.read_now(name, start, end) == data[start:end]

    def not_in_memory(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", not_in_memory)
    assert room.blobs.read_now(name, start, end) is None


def test_read_now_notices_damage(room: Room) -> None:
    name = store_bytes(room.blobs, pattern(1000))
    path = room.files.path(name)
    assert path is not None
    path.write_bytes(flip(HEADER_BYTES + 3)(path.read_bytes()))
    with pytest.raises(Unavailable, match="damaged"):
        room.blobs.read_now(name, 0, 1000)
