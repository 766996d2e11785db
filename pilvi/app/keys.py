"""Reading the root's key from a data directory, beside a running server: only who may read the directory can."""

from __future__ import annotations

from pathlib import Path

from pilvi.app.server import read_state
from pilvi.core.clock import SystemClock
from pilvi.core.errors import Unavailable
from pilvi.core.ids import Ids
from pilvi.services.iam.identities import Identities
from pilvi.storage.records import Records
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.storage.sealed import Keyring


def root_key(data_dir: Path) -> tuple[str, str, str]:
    """(account, access key id, secret) of the first account's root."""
    state = read_state(data_dir) or {}
    store = open_metadata(data_dir, str(state.get("records", "")))
    try:
        keyring = Keyring(str(state.get("root_key", "")) or data_dir / "keys" / "master.key")
        identities = Identities(store, keyring, SystemClock(), Ids())
        for account in identities.accounts():
            key = identities.root_key(account)
            if key is not None:
                return account, key.access_key_id, key.secret
    finally:
        store.close()
    raise Unavailable(f"the accounts in {data_dir} have no active root key; make one with the AWS CLI (iam create-access-key)")


def open_metadata(data_dir: Path, records: str) -> Records:
    """The store beside a server that runs on it."""
    if not records:
        return SqliteRecords(data_dir / "records.sqlite", shared=True)
    from pilvi.storage.records.postgres import PostgresRecords

    return PostgresRecords(records)
