"""What is sealed under keys of its own opens with them alone, and plain blobs tell when they are not what was written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pilvi.core.errors import Invalid, Unavailable
from pilvi.storage.blobs.files import FileBlobs
from pilvi.storage.layers import Keys, seal_body, unseal_body
from pilvi.storage.plain import SPAN_BYTES
from pilvi.storage.sealed import CHUNK_BYTES, Keyring, PlainBlobs, SealedBlobs
from pilvi.testing.contracts.blobs import SIZES, pattern, store_bytes
from tests.storage.test_sealed import flip

ONE: Keys = (bytes(range(32)),)
TWO: Keys = (bytes(range(32)), bytes(range(100, 132)))
OTHERS: list[Keys] = [(bytes(32),), TWO[::-1], (*ONE, bytes(32))]


@pytest.fixture
def files(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


@pytest.fixture(params=["sealed", "plain"])
def blobs(request: pytest.FixtureRequest, files: FileBlobs, tmp_path: Path) -> SealedBlobs | PlainBlobs:
    keyring = Keyring(tmp_path / "keys" / "master.key")
    return SealedBlobs(files, keyring) if request.param == "sealed" else PlainBlobs(files, keyring)


@pytest.mark.parametrize("keys", [ONE, TWO])
def test_blobs_under_keys_of_their_own_are_read_with_them_alone(
    blobs: SealedBlobs | PlainBlobs, files: FileBlobs, keys: Keys
) -> None:
    own = blobs.under(keys)
    for size in SIZES:
        data = pattern(size, size)
        name = store_bytes(own, data)
        assert own.read(name) == data
        assert b"".join(own.stream(name, piece_bytes=200_000)) == data
        assert own.read(name, 1000, 140_000) == data[1000:140_000]
        assert blobs.size(name) == size
        blobs.check(name)
        if size >= 1000:
            assert data[:100] not in Path(files.place(name)).read_bytes()
        with pytest.raises(Unavailable):
            blobs.read(name)
        for other in OTHERS:
            if size:
                with pytest.raises(Unavailable, match="damaged"):
                    blobs.under(other).read(name)


@pytest.mark.parametrize("keys", [ONE, TWO])
def test_bodies_under_keys_of_their_own_open_with_them_alone(keys: Keys) -> None:
    for data in (b"", b"1", os.urandom(30_000)):
        sealed = seal_body(keys, data, "name")
        assert unseal_body(keys, sealed, "name") == data
        assert seal_body(keys, data, "another") != sealed
        for others, stored, name in (
            *((other, sealed, "name") for other in OTHERS),
            (keys, sealed, "another"),
            (keys, flip(-1)(sealed), "name"),
            (keys, flip(0)(sealed), "name"),
            (keys, sealed[:10], "name"),
            (keys, b"", "name"),
        ):
            with pytest.raises(Invalid):
                unseal_body(others, stored, name)


SWAPPED = 2 * SPAN_BYTES
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "first byte": flip(0),
    "in the middle": flip(CHUNK_BYTES + 7),
    "a sum": flip(3 * CHUNK_BYTES + 3),
    "footer": flip(-30),
    "last byte": flip(-1),
    "cut": lambda stored: stored[:-7],
    "cut at a span": lambda stored: stored[:SPAN_BYTES],
    "empty": lambda _: b"",
    "longer": lambda stored: stored + b"x",
    "swapped spans": lambda stored: stored[SPAN_BYTES:SWAPPED] + stored[:SPAN_BYTES] + stored[SWAPPED:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_a_plain_blob_is_noticed(files: FileBlobs, damage: str) -> None:
    plain = PlainBlobs(files)
    name = store_bytes(plain, pattern(3 * CHUNK_BYTES))
    path = Path(files.place(name[:-1]))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    for reading in (plain.read, lambda name: list(plain.stream(name)), plain.check):
        with pytest.raises(Unavailable, match="damaged"):
            reading(name)


def test_a_plain_blob_under_another_name_is_noticed(files: FileBlobs) -> None:
    plain = PlainBlobs(files)
    one, two = (store_bytes(plain, pattern(1000, seed)) for seed in (1, 2))
    Path(files.place(two[:-1])).write_bytes(Path(files.place(one[:-1])).read_bytes())
    with pytest.raises(Unavailable, match="damaged"):
        plain.read(two)


def test_a_plain_blob_of_earlier_days_is_read(files: FileBlobs) -> None:
    data = pattern(200_000)
    name = store_bytes(files, data) + "p"
    plain = PlainBlobs(files)
    assert plain.read(name, 10, 150_000) == data[10:150_000]
    assert list(plain.names()) == [name]
    assert plain.path(name) is not None
