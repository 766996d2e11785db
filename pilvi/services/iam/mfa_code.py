"""Whether a code is what an MFA device shows. Apart from the operations, because every server's start needs it (identities.py)."""

from __future__ import annotations

from pilvi.auth.totp import step_at, step_of
from pilvi.core.clock import Clock
from pilvi.core.errors import Conflict
from pilvi.services.iam.tables import table
from pilvi.storage.records import Records, Update
from pilvi.storage.sealed import Keyring


def seed_context(serial: str) -> bytes:
    return f"iam:mfa:{serial}".encode()


def is_right(store: Records, keyring: Keyring, clock: Clock, account: str, user: str, serial: str, code: str) -> bool:
    """Whether this is what a user's device shows now. A code is good once. Blocks: it writes down that the code was used."""
    devices = table(account, "MFADevice")
    while (row := store.get(devices, serial)) is not None:
        device = row.value
        if device.get("_user") != user:
            return False
        seed = keyring.unseal(device["_seed"], seed_context(serial))
        step = step_of(seed, code, step_at(clock.real_s()) + device["_drift"])
        if step is None or step <= device["_last"]:
            return False
        try:
            store.write(Update(devices, serial, {**device, "_last": step}, row.version))
        except Conflict:
            continue
        return True
    return False
