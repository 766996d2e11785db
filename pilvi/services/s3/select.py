"""SelectObjectContent: a simple SQL query over one object, answered as a stream of events.

    request --settings--> Input, Output      expression --select_sql--> tree --select_plan--> SQL
    object --GetObject--> bytes --select_input--> blocks --select_engine--> records --> Records ... Stats, End

The object is read by GetObject as the caller: permissions, encryption and archives count as everywhere. Blocks pass through one by
one, so memory does not grow with the object. DuckDB and pyarrow come with the extra `pilvi[select]` and are imported here alone.

Source: S3 API Reference, SelectObjectContent and "List of SELECT Object Content error codes".
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.errors import access_denied
from pilvi.services.s3.select_plan import Output, Planner, Scope, csv_scope, json_scope, parquet_scope
from pilvi.services.s3.select_sql import failure, parse

if TYPE_CHECKING:
    import pyarrow

    from pilvi.services.s3.select_engine import Engine
    from pilvi.services.s3.select_input import Csv, Progress, Window

ops = Operations()

EVENT_BYTES = 512 << 10
"""Records go out in events of this size at most."""
QUIET_BLOCKS = 8
"""After so many blocks without a record the client hears that work goes on."""
CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")

Event = dict[str, Any]
Blocks = Generator[tuple["pyarrow.Table", Scope], None, None]


@ops
def select_object_content(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Filter an object's records by a query.

    req: Bucket, Key, Expression (256 KB), ExpressionType SQL, InputSerialization {CSV, JSON or Parquet, CompressionType},
    OutputSerialization {CSV or JSON}, RequestProgress, ScanRange.
    Errors: the codes of S3 Select: what the request tells is refused at once, what the records tell ends the stream.
    Source: S3 API Reference, SelectObjectContent; S3 User Guide, "SQL reference for Amazon S3 Select".
    Differs: needs the extra pilvi[select]. Records end at CR LF as at LF. JSON keys are matched with their case. Comparing text
    with a number compares numbers.
    """
    if ctx.principal.kind == "anonymous":
        raise access_denied()
    try:
        selection = Selection(ctx, req)
    except RecursionError:
        raise failure("ExpressionTooLong", "The SQL expression is nested too deeply.") from None
    return {"Payload": selection.events()}


class Selection:
    """One call."""

    def __init__(self, ctx: Context, req: Mapping[str, Any]) -> None:
        check_installed()
        from pilvi.services.s3.select_engine import Engine
        from pilvi.services.s3.select_input import Progress

        if req["ExpressionType"].upper() != "SQL":
            raise failure("InvalidExpressionType", "The ExpressionType is not valid. Only SQL expressions are supported.")
        self._ctx = ctx
        self._object = {name: req[name] for name in ("Bucket", "Key", *CUSTOMER_KEY) if name in req}
        self._input = input_of(req["InputSerialization"])
        self._query = parse(req["Expression"])
        if self._query.source and self._input.kind != "JSON":
            raise failure("InvalidKeyPath", "The key path in the SQL expression is not valid.")
        self._planner = Planner(self._query, output_of(req["OutputSerialization"]), ctx.clock.now())
        self._progress: Progress = Progress()
        self._tells_progress = bool((req.get("RequestProgress") or {}).get("Enabled"))
        head = ctx.call("s3", "HeadObject", **self._object)
        self._object["IfMatch"] = head["ETag"]
        self._size: int = head["ContentLength"]
        self._window = window_of(req.get("ScanRange"), self._input, self._size)
        self._engine: Engine = Engine()
        self._blocks = self.blocks()
        try:
            # The first block tells most of what can be wrong: it is looked at before the stream begins.
            self._first = next(self._blocks, None)
            if self._first is not None:
                self._check(*self._first)
        except BaseException:
            self.close()
            raise

    def _check(self, table: pyarrow.Table, scope: Scope) -> None:
        """Bind the query to the first block, with no record of it."""
        if self._planner.aggregates:
            self._engine.prepare(table.slice(0, 0), self._planner.partial(scope))
        else:
            self._engine.row(table.slice(0, 0), self._planner.records(scope, 0))

    def close(self) -> None:
        self._blocks.close()
        self._engine.close()

    # -- events ------------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        try:
            yield from self.aggregated() if self._planner.aggregates else self.filtered()
            if self._tells_progress:
                yield {"Progress": {"Details": self.details()}}
            yield {"Stats": {"Details": self.details()}}
            yield {"End": {}}
        finally:
            self.close()

    def filtered(self) -> Iterator[Event]:
        left = self._query.limit
        quiet = 0
        for table, scope in self.all_blocks():
            if left == 0:
                return
            found, count = self._engine.row(table, self._planner.records(scope, left))
            left = None if left is None else left - count
            quiet = 0 if found else quiet + 1
            if found:
                yield from self.sent(found)
            elif quiet % QUIET_BLOCKS == 0:
                yield {"Cont": {}}
            if found and self._tells_progress:
                yield {"Progress": {"Details": self.details()}}

    def aggregated(self) -> Iterator[Event]:
        for number, (table, scope) in enumerate(self.all_blocks(), 1):
            self._engine.add(table, self._planner.partial(scope))
            if number % QUIET_BLOCKS == 0:
                yield {"Cont": {}}
        (record,) = self._engine.row(table.slice(0, 0), self._planner.final(scope))
        yield from self.sent(record + self._planner.output.record)

    def all_blocks(self) -> Iterator[tuple[pyarrow.Table, Scope]]:
        from pilvi.services.s3.select_input import slices

        first, self._first = self._first, None
        references = self._planner.references
        for table, scope in itertools.chain([first] if first is not None else [], self._blocks):
            for part in slices(table, references):
                yield part, scope

    def sent(self, records: str) -> Iterator[Event]:
        data = records.encode()
        self._progress.returned += len(data)
        for at in range(0, len(data), EVENT_BYTES):
            yield {"Records": {"Payload": data[at : at + EVENT_BYTES]}}

    def details(self) -> dict[str, int]:
        progress = self._progress
        return {"BytesScanned": progress.scanned, "BytesProcessed": progress.processed, "BytesReturned": progress.returned}

    # -- blocks ------------------------------------------------------------------------------------------------------

    def blocks(self) -> Blocks:
        """The object's records as tables, each with what names mean in it."""
        if self._input.kind == "PARQUET":
            return self.parquet_blocks()
        return self.csv_blocks(self._input.csv) if self._input.csv is not None else self.json_blocks()

    def csv_blocks(self, settings: Csv) -> Blocks:
        from pilvi.services.s3.select_input import block_tables, blocks, csv_tables, without_first

        quote = settings.quote.encode() if settings.has_breaks else b""
        delimiter = settings.record.encode()
        names: list[str] | None = None
        waits_for_header = settings.header != "NONE"
        if waits_for_header and self._window is not None and self._window.start > 0:
            head = self.read_range(0, min(self._size, 1 << 20))
            names, _ = without_first(next(block_tables(head[: head.find(delimiter) + 1], settings)))
            waits_for_header = False
        for table in csv_tables(blocks(self.pieces(delimiter), delimiter, quote, self._progress), settings):
            rows = table
            if waits_for_header and table.num_rows:
                names, rows = without_first(table)
                waits_for_header = False
            known = names if settings.header == "USE" else None
            yield rows, csv_scope(table.num_columns, known)

    def json_blocks(self) -> Blocks:
        from pilvi.services.s3.select_input import blocks, document_tables, line_tables

        scope = json_scope(self._query.source)
        if self._input.is_lines:
            tables = line_tables(blocks(self.pieces(b"\n"), b"\n", b"", self._progress))
        else:
            tables = document_tables(self.pieces(b"\n"), self._progress)
        for table in tables:
            yield table, scope

    def parquet_blocks(self) -> Blocks:
        from pilvi.services.s3.select_input import RangeFile, open_parquet, parquet_tables
        from pilvi.services.s3.select_plan import parquet_column

        file = open_parquet(RangeFile(self._size, self.read_range, self._progress))
        names: list[str] = file.schema_arrow.names
        if not self._planner.is_everything:
            wanted = {parquet_column(path[0], names) for path in self._planner.names() if path}
            names = [names[at] for at in sorted(wanted)] or names[:1]
        scope = parquet_scope(names)
        is_empty = True
        for table in parquet_tables(file, names, self._window):
            is_empty = False
            yield table, scope
        if is_empty:
            yield file.schema_arrow.empty_table().select(names), scope

    def pieces(self, delimiter: bytes) -> Iterator[bytes]:
        """The object's bytes, or of them the records that begin in the range asked for."""
        from pilvi.services.s3.select_input import counted, plain, windowed

        window = self._window
        if window is None:
            yield from plain(self.counted_body(), self._input.compression)
            return
        at = max(window.start - len(delimiter), 0)
        if at < self._size:
            yield from windowed(counted(self.body(Range=f"bytes={at}-"), self._progress), at, window, delimiter)

    def counted_body(self) -> Iterator[bytes]:
        from pilvi.services.s3.select_input import counted

        return counted(self.body(), self._progress)

    def body(self, **more: str) -> Iterator[Any]:
        stream = self._ctx.call("s3", "GetObject", **self._object, **more)["Body"]
        pieces = iter(stream)
        try:
            yield from pieces
        finally:
            if (close := getattr(pieces, "close", None)) is not None:
                close()

    def read_range(self, start: int, end: int) -> bytes:
        return b"".join(self.body(Range=f"bytes={start}-{end - 1}"))


# -- what the request says ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Input:
    kind: str
    """CSV, JSON or PARQUET"""
    compression: str
    csv: Csv | None = None
    is_lines: bool = False


def input_of(given: Mapping[str, Any]) -> Input:
    kinds = [kind for kind in ("CSV", "JSON", "Parquet") if kind in given]
    check_one(kinds)
    compression = given.get("CompressionType") or "NONE"
    if compression not in ("NONE", "GZIP", "BZIP2"):
        raise failure(
            "InvalidCompressionFormat", "The file is not in a supported compression format. Only GZIP and BZIP2 are supported."
        )
    settings = given[kinds[0]]
    if kinds[0] == "CSV":
        return Input("CSV", compression, csv_of(settings))
    if kinds[0] == "JSON":
        kind = settings.get("Type")
        if kind not in ("LINES", "DOCUMENT"):
            raise failure("InvalidJsonType", "The JsonType value is not valid. Only DOCUMENT and LINES are supported.")
        return Input("JSON", compression, is_lines=kind == "LINES")
    if compression != "NONE":
        raise failure(
            "InvalidCompressionFormat",
            "The file is not in a supported compression format. Parquet objects are compressed by columns, never whole.",
        )
    return Input("PARQUET", compression)


def check_one(kinds: list[str]) -> None:
    if len(kinds) > 1:
        raise failure(
            "ObjectSerializationConflict",
            "The SelectRequest entity can only contain one of CSV or JSON. Check the service documentation and try again.",
        )
    if not kinds:
        raise failure(
            "MissingRequiredParameter",
            "The SelectRequest entity is missing a required parameter. Check the service documentation and try again.",
        )


def csv_of(given: Mapping[str, Any]) -> Csv:
    from pilvi.services.s3.select_input import Csv

    header = given.get("FileHeaderInfo") or "NONE"
    if header not in ("NONE", "USE", "IGNORE"):
        raise failure("InvalidFileHeaderInfo", "The FileHeaderInfo value is not valid. Only NONE, USE, and IGNORE are supported.")
    quote = one_character(given, "QuoteCharacter", '"')
    return Csv(
        header,
        one_character(given, "FieldDelimiter", ",") or ",",
        one_character(given, "RecordDelimiter", "\n", 2) or "\n",
        quote,
        one_character(given, "QuoteEscapeCharacter", quote),
        one_character(given, "Comments", "#"),
        bool(given.get("AllowQuotedRecordDelimiter")),
    )


def output_of(given: Mapping[str, Any]) -> Output:
    kinds = [kind for kind in ("CSV", "JSON") if kind in given]
    check_one(kinds)
    settings = given[kinds[0]]
    record = one_character(settings, "RecordDelimiter", "\n", 2)
    if kinds[0] == "JSON":
        return Output(True, record)
    quotes = settings.get("QuoteFields") or "ASNEEDED"
    if quotes not in ("ALWAYS", "ASNEEDED"):
        raise failure("InvalidQuoteFields", "The QuoteFields value is not valid. Only ALWAYS and ASNEEDED are supported.")
    quote = one_character(settings, "QuoteCharacter", '"')
    escape = one_character(settings, "QuoteEscapeCharacter", quote)
    return Output(False, record, one_character(settings, "FieldDelimiter", ","), quote, escape, quotes == "ALWAYS")


def one_character(given: Mapping[str, Any], name: str, default: str, most: int = 1) -> str:
    value: str | None = given.get(name)
    if value is None:
        return default
    if len(value) > most or "\0" in value:
        raise failure(
            "InvalidRequestParameter",
            f"The value of a parameter in SelectRequest element is invalid. Check the service API documentation and try again: {name}.",
        )
    return value


def window_of(given: Mapping[str, Any] | None, kind: Input, size: int) -> Window | None:
    """The offsets that records may begin at. Only an end: the last bytes of the object."""
    if not given:
        return None
    from pilvi.services.s3.select_input import Window

    start, end = given.get("Start"), given.get("End")
    has_breaks = kind.csv is not None and kind.csv.has_breaks
    if kind.compression != "NONE" or has_breaks or (kind.kind == "JSON" and not kind.is_lines):
        raise failure(
            "UnsupportedScanRangeInput",
            "Scan range queries are not supported on this type of object. Supported objects are uncompressed CSV objects, "
            "uncompressed JSON objects, and Parquet objects.",
        )
    if (
        (start is None and end is None)
        or (start or 0) < 0
        or (end or 0) < 0
        or (start is not None and end is not None and start > end)
    ):
        raise failure(
            "InvalidRequestParameter",
            "The value of a parameter in ScanRange element is invalid. Check the service API documentation and try again.",
        )
    if start is None:
        return Window(max(size - (end or 0), 0), size)
    return Window(start, size if end is None else end)


def check_installed() -> None:
    try:
        import duckdb  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError:
        raise ServiceError(
            "NotImplemented", "SelectObjectContent needs an engine that is not installed: pip install 'pilvi[select]'.", 501
        ) from None
