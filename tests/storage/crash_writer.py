"""The program that test_crash kills: writes records and blobs, and says on stdout what was acknowledged."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from pathlib import Path

from pilvi.storage.blobs.files import FileBlobs
from pilvi.storage.records import Insert, Put, PutBody, Table, new_body_name
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.storage.sealed import Keyring, SealedBlobs

ROWS = Table("1", "r", "s", "Row")
PAIRS = Table("1", "r", "s", "Pair")
OBJECTS = Table("1", "r", "s", "Object")


def main(folder: Path, run: str) -> None:
    keyring = Keyring(folder / "keys" / "master.key")
    store = SqliteRecords(folder / "records.db")
    blobs = SealedBlobs(FileBlobs(folder / "blobs"), keyring)
    say = threading.Lock()

    def work(worker: int) -> None:
        for number in range(1_000_000):
            id = f"{run}-{worker}-{number}"
            data = hashlib.sha256(id.encode()).digest() * (1 + number % 40)
            if worker % 2:
                name = new_body_name()
                store.write(
                    Insert(ROWS, id, {"body": name}), PutBody(name, keyring.seal(data, name.encode())), Put(PAIRS, id, {"half": 2})
                )
            else:
                writer = blobs.create()
                writer.write(data * 2000)
                writer.finish()
                store.write(Insert(OBJECTS, id, {"blob": writer.name, "of": data}), PutBody(writer.name, None))
            with say:
                os.write(1, f"{id}\n".encode())

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
