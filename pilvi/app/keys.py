"""Reading the root's key from a data directory, beside a running server: only who may read the directory can."""

from __future__ import annotations

from pathlib import Path

from pilvi.core.clock import SystemClock
from pilvi.core.errors import Unavailable
from pilvi.core.ids import Ids
from pilvi.services.iam.identities import Identities
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.storage.sealed import Keyring


def root_key(data_dir: Path) -> tuple[str, str, str]:
    """(account, access key id, secret) of the first account's root."""
    store = SqliteRecords(data_dir / "records.sqlite", shared=True)
    try:
        identities = Identities(store, Keyring(data_dir / "keys" / "master.key"), SystemClock(), Ids())
        for account in identities.accounts():
            key = identities.root_key(account)
            if key is not None:
                return account, key.access_key_id, key.secret
    finally:
        store.close()
    raise Unavailable(f"the accounts in {data_dir} have no active root key; make one with the AWS CLI (iam create-access-key)")
