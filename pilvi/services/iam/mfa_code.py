"""Whether a code is what an MFA device shows. Apart from the operations, because every server's start needs it (identities.py)."""

from __future__ import annotations

from pilvi.auth.totp import step_at, step_of
from pilvi.core.clock import Clock
from pilvi.core.errors import Conflict
from pilvi.services.iam.tables import table
from pilvi.storage.records import Records, Update
from pilvi.storage.sealed import Keyring

TRIES = 5
"""Wrong codes that a device may be said to show within one step; none is right after them until the next one."""


def seed_context(serial: str) -> bytes:
    return f"iam:mfa:{serial}".encode()


def is_right(store: Records, keyring: Keyring, clock: Clock, account: str, user: str, serial: str, code: str) -> bool:
    """Whether this is what a user's device shows now. A code is good once. Blocks: it writes down that the code was used, or was wrong."""
    devices = table(account, "MFADevice")
    while (row := store.get(devices, serial)) is not None:
        device = row.value
        if device.get("_user") != user:
            return False
        seed = keyring.unseal(device["_seed"], seed_context(serial))
        now = step_at(clock.real_s())
        tried_at, wrong = device.get("_wrong", (now, 0))
        wrong = wrong if tried_at == now else 0
        if wrong >= TRIES:
            return False
        step = step_of(seed, code, now + device["_drift"])
        is_shown = step is not None and step > device["_last"]
        noted = {"_last": step} if is_shown else {"_wrong": (now, wrong + 1)}
        try:
            store.write(Update(devices, serial, {**device, **noted}, row.version))
        except Conflict:
            continue
        return is_shown
    return False
