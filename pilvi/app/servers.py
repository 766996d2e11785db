"""Several servers on one store: who they are, and which of them does what only one may do.

    each server     a row with its address and the word its blobs' names begin with, renewed while it lives
    the leader      holds a lease: runs jobs and what else lives in one server's memory; when it dies, another takes over

Every server serves what lives in the store alone (S3, IAM, STS, KMS ...); calls of other services go to the leader.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pilvi.core.clock import Clock
from pilvi.core.errors import AlreadyExists, Conflict, Invalid, PilviError, Unavailable
from pilvi.storage.blobs import word_of_this_process
from pilvi.storage.keyring import Keyring
from pilvi.storage.records import Delete, Insert, Put, Records, Table, Update

log = logging.getLogger("pilvi")

SERVERS = Table("", "", "servers", "Server")
LEADER = Table("", "", "servers", "Leader")
CHECK = Table("", "", "servers", "Key")
RENEW_S = 5.0
LEASE_S = 30.0
STORE_ALONE = frozenset({"s3", "s3control", "sts", "iam", "kms"})
"""Services without anything in one server's memory."""


class Servers:
    """This server among the others."""

    def __init__(self, store: Records, clock: Clock, endpoint: str) -> None:
        self._store = store
        self._clock = clock
        self.endpoint = endpoint
        self.word = word_of_this_process()
        self.leads = False
        self.leader_endpoint = ""
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def join(self) -> None:
        """Be known, and lead when nobody does."""
        self._renew()

    def start(self, on_lead: Callable[[], None]) -> None:
        """Stay known. on_lead: called in a thread when this server takes over from one that is gone."""
        self._thread = threading.Thread(target=self._live, args=(on_lead,), name="servers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        for table, id in ((SERVERS, self.word), *([(LEADER, "leader")] if self.leads else [])):
            try:
                self._store.write(Delete(table, id))
            except PilviError as error:
                log.debug("servers: %s", error)

    def is_alive(self, word: str) -> bool:
        """Whether the server whose names begin so may be writing."""
        row = self._store.get(SERVERS, word)
        return row is not None and self._clock.real_s() < row.value["until_s"] + LEASE_S

    def serves(self, service: str) -> bool:
        """Whether a call is answered here."""
        return self.leads or service in STORE_ALONE

    def _live(self, on_lead: Callable[[], None]) -> None:
        while not self._closing.wait(RENEW_S):
            led = self.leads
            try:
                self._renew()
            except PilviError as error:
                log.warning("servers: %s", error)
                continue
            if self.leads and not led:
                log.warning("servers: this server leads now")
                try:
                    on_lead()
                except Exception:  # the server stands, and goes on being known
                    log.exception("servers: taking over failed")

    def _renew(self) -> None:
        now = self._clock.real_s()
        self._store.write(Put(SERVERS, self.word, {"endpoint": self.endpoint, "until_s": now + LEASE_S}))
        value = {"word": self.word, "endpoint": self.endpoint, "until_s": now + LEASE_S}
        row = self._store.get(LEADER, "leader")
        if row is not None and row.value["word"] != self.word and now < row.value["until_s"]:
            self.leads, self.leader_endpoint = False, row.value["endpoint"]
            return
        try:
            self._store.write(Insert(LEADER, "leader", value) if row is None else Update(LEADER, "leader", value, row.version))
            self.leads, self.leader_endpoint = True, self.endpoint
        except (AlreadyExists, Conflict):
            self.leads = False


def check_keys(store: Records, keyring: Keyring) -> None:
    """Unavailable when the store was written with other master keys than these."""
    row = store.get(CHECK, "check")
    if row is None:
        try:
            store.write(Insert(CHECK, "check", {"sealed": keyring.seal(b"pilvi", b"servers")}))
            return
        except AlreadyExists:
            row = store.get(CHECK, "check")
    try:
        keyring.unseal(row.value["sealed"] if row is not None else b"", b"servers")
    except Invalid as error:
        raise Unavailable("--root-key: this store was written with other master keys; give every server the same file.") from error
