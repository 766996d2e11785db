"""Copies of the metadata in other folders: whatever is committed is committed there too before anybody is told.

    the writer's statements of a batch  ->  committed in the first file  ->  run again in every copy, side by side  ->  wake

Every file says how far it is (table `copy_state`: an epoch, drawn by each start, and the batches committed since). A start takes
the file that is furthest and puts it in the place of those that are not (`bring_up_to_date`). A copy that fails is out: the
others begin a new epoch, so that however it comes back it is known to be behind.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from pilvi.core.errors import Unavailable
from pilvi.storage.durable import sync_folder

log = logging.getLogger(__name__)

Statement = tuple[str, Any]

COUNT = "UPDATE copy_state SET batch = batch + 1"
BUSY_S = 10.0
WAL_PAGES = 8000


class State(NamedTuple):
    """How far a file is; the greater is the later."""

    epoch: int
    batch: int
    store: str
    """What all files of one store share."""


class SqliteCopy:
    """One other file, written by a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, "records-copy")
        self._connection = connect(path)

    def run(self, statements: Sequence[Statement]) -> Future[None]:
        return self._thread.submit(self._run, statements)

    def close(self) -> None:
        self._thread.shutdown()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _run(self, statements: Sequence[Statement]) -> None:
        cursor = self._connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        for statement, parameters in statements:
            cursor.execute(statement, parameters)
        cursor.execute("COMMIT")


class SqliteCopies:
    """All of them, as the writer sees them."""

    def __init__(self, copies: Sequence[SqliteCopy], on_lost: Callable[[Path, str], None]) -> None:
        """on_lost: told which file failed, and why."""
        self._copies = list(copies)
        self._on_lost = on_lost

    def run(self, statements: Sequence[Statement]) -> list[str]:
        """Commit a batch everywhere; the statements that the first file must run too when a copy was lost by it."""
        running = [(copy, copy.run(statements)) for copy in self._copies]
        is_lost = False
        for copy, done in running:
            try:
                done.result()
            except sqlite3.Error as error:
                is_lost = True
                self._lose(copy, str(error))
        return self._new_epoch() if is_lost else []

    def lose(self, path: Path, reason: str) -> list[str]:
        """Leave a copy out whose folder failed otherwise."""
        for copy in [copy for copy in self._copies if copy.path == path]:
            self._lose(copy, reason)
        return self._new_epoch()

    def close(self) -> None:
        for copy in self._copies:
            copy.close()

    def _lose(self, copy: SqliteCopy, reason: str) -> None:
        self._copies.remove(copy)
        copy.close()
        log.error("records: the copy %s is out until the next start: %s", copy.path, reason)
        self._on_lost(copy.path, reason)

    def _new_epoch(self) -> list[str]:
        statement = "UPDATE copy_state SET epoch = epoch + 1, batch = 0"
        for copy in list(self._copies):
            try:
                copy.run([(statement, ())]).result()
            except sqlite3.Error as error:
                self._lose(copy, str(error))
        return [statement]


def bring_up_to_date(paths: Sequence[Path]) -> None:
    """Make all files equal to the one that is furthest, and begin a new epoch. Before any of them is opened otherwise."""
    states = {path: state_of(path) for path in paths}
    known = {path: state for path, state in states.items() if state is not None}
    if not known:
        return
    newest = max(known, key=lambda path: (known[path], -paths.index(path)))
    for path, state in known.items():
        if state.store != known[newest].store:
            raise Unavailable(f"{path.parent} and {newest.parent} hold different clouds: a mirror must be empty, or a copy.")
    for path in paths:
        if states[path] != known[newest]:
            log.log(logging.WARNING if path.exists() else logging.INFO, "records: %s is brought up to date from %s", path, newest)
            _replace(path, newest)
    for path in paths:
        connection = connect(path)
        connection.execute("UPDATE copy_state SET epoch = ?, batch = 0", (known[newest].epoch + 1,))
        connection.close()


def state_of(path: Path) -> State | None:
    """How far a file is; None when there is none, or none that can be used."""
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        connection = connect(path)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS copy_state (epoch INTEGER NOT NULL, batch INTEGER NOT NULL, store TEXT NOT NULL)"
            )
            connection.execute(
                "INSERT INTO copy_state SELECT 0, 0, ? WHERE NOT EXISTS (SELECT 1 FROM copy_state)", (os.urandom(16).hex(),)
            )
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("it is damaged")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'row'").fetchone():
                return None
            return State(*connection.execute("SELECT epoch, batch, store FROM copy_state").fetchone())
        finally:
            connection.close()
    except sqlite3.Error as error:
        log.error("records: %s cannot be used: %s", path, error)
        return None


def go_on_alone(path: Path) -> None:
    """This file is opened without its copies, if it ever had any: they are behind from now on."""
    connection = connect(path)
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'copy_state'").fetchone():
        connection.execute("UPDATE copy_state SET epoch = epoch + 1, batch = 0")
    connection.close()


def integrity(path: Path) -> list[str]:
    """What SQLite finds wrong with a file, page by page and index by index."""
    try:
        connection = connect(path)
        try:
            return [message for (message,) in connection.execute("PRAGMA integrity_check(20)") if message != "ok"]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [str(error)]


def read_one(path: Path, statement: str, key: Any) -> bytes | None:
    """One value of a file that others may be writing; None when it cannot be had."""
    try:
        connection = connect(path)
        try:
            found = connection.execute(statement, (key,)).fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return None
    data: bytes | None = found[0] if found is not None else None
    return data


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    return connection


def _replace(path: Path, source: Path) -> None:
    """The whole content of another file in the place of this one, or nothing."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    origin, target = connect(source), sqlite3.connect(draft, isolation_level=None)
    try:
        origin.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise Unavailable(f"{path} cannot be brought up to date from {source}: {error}.") from error
    finally:
        target.close()
        origin.close()
    with open(draft, "rb") as file:
        os.fsync(file.fileno())
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    os.replace(draft, path)
    sync_folder(path.parent)
