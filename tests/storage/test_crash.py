"""kill -9 at any moment: what was acknowledged is there, whole; what was not is there whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilvi.storage.blobs.files import FileBlobs
from pilvi.storage.records import Records, Table
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.storage.sealed import Keyring, SealedBlobs
from tests.storage.crash_writer import OBJECTS, PAIRS, ROWS

HEARD = (1, 7, 60, 250)
"""After how many acknowledgements each run is killed."""


def test_acknowledged_writes_survive_sigkill(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for run, count in enumerate(HEARD):
        acknowledged |= killed_after(count, tmp_path, f"run{run}")
        check_everything(tmp_path, acknowledged)
    assert len(acknowledged) >= sum(HEARD)


def killed_after(count: int, folder: Path, run: str) -> set[str]:
    """What a writer said until it was killed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.crash_writer", str(folder), run],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    heard = [child.stdout.readline() for _ in range(count)]
    child.kill()
    heard += child.stdout.readlines()
    child.stdout.close()
    child.wait()
    return {line.decode().strip() for line in heard if line.endswith(b"\n")}


def check_everything(folder: Path, acknowledged: set[str]) -> None:
    store = SqliteRecords(folder / "records.db")
    keyring = Keyring(folder / "keys" / "master.key")
    blobs = SealedBlobs(FileBlobs(folder / "blobs"), keyring)
    try:
        blobs.sweep(store.body_names(blobs_only=True))
        found: set[str] = set()
        for id, value in everything(store, ROWS):
            found.add(id)
            body = store.body(value["body"])
            assert body is not None
            assert keyring.unseal(body, value["body"].encode())[:32] == hashlib.sha256(id.encode()).digest()
            assert store.get(PAIRS, id) is not None
        claimed = set()
        for id, value in everything(store, OBJECTS):
            found.add(id)
            claimed.add(value["blob"])
            assert blobs.read(value["blob"]) == value["of"] * 2000
        assert acknowledged <= found
        assert set(blobs.names()) == claimed
    finally:
        store.close()


def everything(store: Records, table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    after = ""
    while rows := store.scan(table, after=after):
        yield from ((row.id, row.value) for row in rows)
        after = rows[-1].id
