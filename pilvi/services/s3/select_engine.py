"""The engine of S3 Select: DuckDB in memory, with no way to anything but the block it is handed.

Statements come from select_plan.py alone. Even so the engine may open no file, load no extension and change no setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow

from pilvi.core.errors import ServiceError
from pilvi.services.s3.select_sql import failure

SETTINGS = (
    "SET enable_external_access = false",
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET TimeZone = 'UTC'",
    "SET lock_configuration = true",
)
MEMORY = "512MB"


class Engine:
    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY, "temp_directory": ""})
        for setting in SETTINGS:
            self._connection.execute(setting)

    def row(self, block: pyarrow.Table, statement: str) -> tuple[Any, ...]:
        """The one row that a statement gives over a block."""
        with self._over(block):
            (found,) = self._connection.execute(statement).fetchall()
        return tuple(found)

    def prepare(self, block: pyarrow.Table, statement: str) -> None:
        """Make the empty table `partials` of what a statement gives."""
        with self._over(block):
            self._connection.execute(f"CREATE TABLE partials AS SELECT * FROM ({statement}) LIMIT 0").fetchall()

    def add(self, block: pyarrow.Table, statement: str) -> None:
        """Add what a statement gives over a block to `partials`."""
        with self._over(block):
            self._connection.execute(f"INSERT INTO partials {statement}").fetchall()

    @contextmanager
    def _over(self, block: pyarrow.Table) -> Iterator[None]:
        self._connection.register("block", block)
        try:
            yield
        except duckdb.Error as error:
            raise as_failure(error) from None
        self._connection.unregister("block")

    def close(self) -> None:
        self._connection.close()


def as_failure(error: duckdb.Error) -> ServiceError:
    """What went wrong, by S3 Select's codes."""
    words = str(error)
    if "alformed JSON" in words:
        return failure("JSONParsingError", "An error occurred while parsing the JSON file. Check the file and try again.")
    if isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException)):
        return failure("CastFailed", "Attempt to convert from one data type to another using CAST failed in the SQL expression.")
    if isinstance(error, duckdb.BinderException):
        return failure("IncorrectSqlFunctionArgumentType", "Incorrect type of arguments in function call in the SQL expression.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return ServiceError("Busy", "The service is unavailable. Try again later.", 503)
    return failure("UnsupportedSqlOperation", "Encountered an unsupported SQL operation.")
