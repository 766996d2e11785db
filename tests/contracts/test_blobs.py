"""The blobs contract against every adapter, and against the sealing around each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pilvi.storage.blobs import Blobs
from pilvi.storage.blobs.files import FileBlobs
from pilvi.storage.blobs.memory import MemoryBlobs
from pilvi.storage.blobs.mirrored import Copies, MirroredBlobs
from pilvi.storage.sealed import AtRest, Keyring, PlainBlobs, SealedBlobs
from pilvi.testing.contracts.blobs import CONTRACT


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
