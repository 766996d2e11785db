"""The blobs contract against every adapter, and against the sealing around each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilvi.storage.blobs import Blobs
from pilvi.storage.blobs.files import FileBlobs
from pilvi.storage.blobs.memory import MemoryBlobs
from pilvi.storage.blobs.mirrored import Copies, MirroredBlobs
from pilvi.storage.blobs.s3 import PART_BYTES, S3Blobs
from pilvi.storage.sealed import AtRest, Keyring, PlainBlobs, SealedBlobs
from pilvi.testing.contracts.blobs import CONTRACT, pattern, store_bytes
from pilvi.testing.peers import Missing, SeaweedFS

ANY_KEYS = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}


def mirrored(folder: Path, dress: Callable[[Blobs, Keyring], AtRest]) -> MirroredBlobs:
    keyring = Keyring(folder / "keys" / "master.key")
    folders = [FileBlobs(folder / name / "blobs") for name in ("a", "b", "c")]
    return MirroredBlobs(Copies(folders, ("a", "b", "c"), lambda _: None), lambda blobs: dress(blobs, keyring), lambda _: True)


ADAPTERS: dict[str, Callable[[Path], Blobs]] = {
    "memory": lambda _: MemoryBlobs(),
    "files": lambda folder: FileBlobs(folder / "blobs"),
    "sealed-memory": lambda folder: SealedBlobs(MemoryBlobs(), Keyring(folder / "keys" / "master.key")),
    "sealed-files": lambda folder: SealedBlobs(FileBlobs(folder / "blobs"), Keyring(folder / "keys" / "master.key")),
    "plain-files": lambda folder: PlainBlobs(FileBlobs(folder / "blobs"), Keyring(folder / "keys" / "master.key")),
    "mirrored": lambda folder: mirrored(folder, SealedBlobs),
    "mirrored-plain": lambda folder: mirrored(folder, PlainBlobs),
    "mirrored-single": lambda folder: mirrored(folder, PlainBlobs).single(),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Blobs], None], adapter: str, tmp_path: Path) -> None:
    promise(ADAPTERS[adapter](tmp_path))


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    try:
        running = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    except Missing as error:
        pytest.skip(str(error))
    yield running
    running.stop()


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_s3_keeps(promise: Callable[[Blobs], None], seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    blobs = S3Blobs("s3://blobs/some/where", seaweedfs.endpoint, ANY_KEYS)
    blobs.clear()
    promise(blobs)


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_sealed_s3_keeps(promise: Callable[[Blobs], None], seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    blobs = SealedBlobs(S3Blobs("s3://sealed", seaweedfs.endpoint, ANY_KEYS), Keyring(tmp_path / "keys" / "master.key"))
    blobs.clear()
    promise(blobs)


def test_s3_large_blobs_go_in_parts(seaweedfs: SeaweedFS) -> None:
    blobs = S3Blobs("s3://large", seaweedfs.endpoint, ANY_KEYS)
    data = pattern(2 * PART_BYTES + 12_345)
    name = store_bytes(blobs, data, 3 << 20)
    assert blobs.size(name) == len(data)
    assert blobs.read(name, PART_BYTES - 5, PART_BYTES + 5) == data[PART_BYTES - 5 : PART_BYTES + 5]
    assert b"".join(blobs.stream(name)) == data
    left = blobs.create()
    left.write(data)
    assert set(blobs.names()) == {name, left.name}
    assert blobs.sweep([name], lambda other: other == left.name) == 0
    left.abort()
    assert list(blobs.names()) == [name]
