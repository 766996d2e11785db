"""Objects as blocks of records: a few megabytes at a time, whatever the object's size.

    bytes --plain--> decompressed --blocks--> cut behind records --tables--> Arrow tables for the engine

CSV becomes a table of text columns c1, c2, ...; JSON one column j of documents; Parquet its own columns, by ranged reads.
"""

from __future__ import annotations

import bz2
import csv
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from pilvi.core.errors import ServiceError
from pilvi.services.s3.select_sql import failure

BLOCK_BYTES = 4 << 20
RECORD_BYTES = 1 << 20
"""Source: S3 User Guide, "Filtering and retrieving data using Amazon S3 Select", Requirements and limits."""
DOCUMENT_BYTES = 64 << 20
"""A document is held whole while it is read."""
COLUMNS = 10_000
CELLS = 4 << 20
"""Fields of a table whose records differ in length, those that are missing among them."""
ANSWER_BYTES = 64 << 20
PARQUET_ROWS = 16_384

Pieces = Iterator[bytes]


@dataclass(slots=True)
class Progress:
    """What Stats and Progress events tell."""

    scanned: int = 0
    """Bytes of the object."""
    processed: int = 0
    """After decompression."""
    returned: int = 0


@dataclass(frozen=True, slots=True)
class Csv:
    header: str
    field: str
    record: str
    quote: str
    escape: str
    comment: str
    has_breaks: bool
    """Quoted fields may hold record delimiters."""


@dataclass(frozen=True, slots=True)
class Window:
    """The records that begin between two offsets, both included."""

    start: int
    end: int


# -- bytes ----------------------------------------------------------------------------------------------------------------


def counted(pieces: Iterator[Any], progress: Progress) -> Pieces:
    for piece in pieces:
        progress.scanned += len(piece)
        yield bytes(piece)


def plain(pieces: Pieces, compression: str) -> Pieces:
    """Errors: TruncatedInput - not compressed as declared, or not to its end."""
    if compression == "NONE":
        yield from pieces
        return
    make: Callable[[], Any] = bz2.BZ2Decompressor if compression == "BZIP2" else lambda: zlib.decompressobj(wbits=31)
    engine, is_open = make(), False
    try:
        for piece in pieces:
            data = piece
            while data:
                is_open = True
                yield from inflated(engine, data)
                data = engine.unused_data
                if not engine.eof:
                    break
                engine, is_open = make(), False
    except (zlib.error, OSError, EOFError):
        raise truncated() from None
    if is_open:
        raise truncated()


def inflated(engine: Any, data: bytes) -> Pieces:
    """What some bytes decompress to, never more than a block at once."""
    out = engine.decompress(data, BLOCK_BYTES)
    while out:
        yield out
        if engine.eof:
            return
        rest = getattr(engine, "unconsumed_tail", b"")
        out = engine.decompress(rest, BLOCK_BYTES) if rest or not getattr(engine, "needs_input", True) else b""


def truncated() -> ServiceError:
    return failure(
        "TruncatedInput",
        "Decompression failed. Check that the object is properly compressed using the format specified in the request.",
    )


def blocks(pieces: Pieces, delimiter: bytes, quote: bytes, progress: Progress) -> Pieces:
    """Whole records, some megabytes a time. quote: given when delimiters inside of quotation marks count for nothing."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        progress.processed += len(piece)
        waiting.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            data = b"".join(waiting)
            cut = last_cut(data, delimiter, quote)
            if size - cut > max(RECORD_BYTES, BLOCK_BYTES):
                raise too_long()
            if cut:
                yield data[:cut]
            waiting = [data[cut:]]
            size -= cut
    if size or not progress.processed:
        yield b"".join(waiting)


def last_cut(data: bytes, delimiter: bytes, quote: bytes) -> int:
    """Behind the last record that is whole."""
    end = len(data)
    is_inside = bool(quote) and data.count(quote) % 2 == 1
    while end >= 0:  # from one quotation mark to the one before it
        start = data.rfind(quote, 0, end) if quote else -1
        at = -1 if is_inside else data.rfind(delimiter, start + 1, end)
        if at >= 0:
            return at + len(delimiter)
        end, is_inside = start, not is_inside
    return 0


def too_long() -> ServiceError:
    return failure(
        "OverMaxRecordSize", "The length of a record in the input or result is greater than the maxCharsPerRecord limit of 1 MB."
    )


def slices(table: pyarrow.Table, references: int) -> Iterator[pyarrow.Table]:
    """The same records, few enough at once that an answer that names their fields so many times fits into memory."""
    if table.nbytes * references <= ANSWER_BYTES:
        yield table
    elif table.num_rows <= 1:
        raise too_long()
    else:
        half = table.num_rows // 2
        yield from slices(table.slice(0, half), references)
        yield from slices(table.slice(half), references)


def windowed(pieces: Pieces, at: int, window: Window, delimiter: bytes) -> Pieces:
    """The records that begin in a window, of bytes that begin at offset `at` (before the window, as far as a delimiter is long)."""
    rest = b""
    is_begun = window.start == 0
    for piece in pieces:
        rest += piece
        if not is_begun:
            found = rest.find(delimiter)
            if found < 0:
                at, rest = at + len(rest) - len(delimiter) + 1, rest[len(rest) - len(delimiter) + 1 :]
                continue
            at, rest, is_begun = at + found + len(delimiter), rest[found + len(delimiter) :], True
            if at > window.end:
                return
        last = max(window.end - at - len(delimiter) + 1, 0)
        found = rest.find(delimiter, last)
        if found >= 0:
            yield rest[: found + len(delimiter)]
            return
        keep = min(len(rest), len(delimiter) - 1)
        yield rest[: len(rest) - keep]
        at, rest = at + len(rest) - keep, rest[len(rest) - keep :]
    if is_begun:
        yield rest


# -- CSV ------------------------------------------------------------------------------------------------------------------


def csv_tables(source: Pieces, settings: Csv) -> Iterator[pyarrow.Table]:
    for block in source:
        data = block
        mark = settings.comment.encode()
        if mark and (data.startswith(mark) or b"\n" + mark in data):
            data = b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(mark))
        yield from block_tables(data, settings)


def block_tables(data: bytes, settings: Csv) -> Iterator[pyarrow.Table]:
    """Records as columns c1, c2, ...; quick where all records have as many fields, else one by one."""
    if settings.record in ("\n", "\r\n") and (found := regular_table(data, settings)) is not None:
        yield found
    else:
        yield from ragged_tables(data, settings)


def regular_table(data: bytes, settings: Csv) -> pyarrow.Table | None:
    width = len(first_record(data, settings))
    if not width:
        return None
    check_width(width)
    names = [f"c{at}" for at in range(1, width + 1)]
    is_doubled = settings.escape == settings.quote
    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=max(len(data), 1), column_names=names),
            pyarrow.csv.ParseOptions(
                delimiter=settings.field,
                quote_char=settings.quote or False,
                double_quote=is_doubled,
                escape_char=False if is_doubled or not settings.escape else settings.escape,
                newlines_in_values=settings.has_breaks,
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False),
        )
    except pyarrow.ArrowInvalid:
        return None


def first_record(data: bytes, settings: Csv) -> list[str]:
    """The fields of the first record; none when there is no record."""
    end = data.find(settings.record.encode(), 0, RECORD_BYTES)
    sample = data[:RECORD_BYTES] if settings.has_breaks or end < 0 else data[: end + len(settings.record)]
    return next(records_of(sample, settings), [])


def check_width(width: int) -> None:
    if width > COLUMNS:
        raise failure(
            "OverMaxColumn", "The number of columns in the result is greater than the maximum allowable number of columns."
        )


def ragged_tables(data: bytes, settings: Csv) -> Iterator[pyarrow.Table]:
    """As many as it takes that a wide record among many narrow ones does not grow into a field for each of them at once."""
    rows: list[list[str]] = []
    width = 0
    for row in records_of(data, settings):
        check_width(len(row))
        if rows and max(width, len(row)) * len(rows) > CELLS:
            yield ragged_table(rows, width)
            rows, width = [], 0
        rows.append(row)
        width = max(width, len(row))
    yield ragged_table(rows, width)


def ragged_table(rows: list[list[str]], width: int) -> pyarrow.Table:
    columns = [[row[at] if at < len(row) else None for row in rows] for at in range(width)]
    arrays = [pyarrow.array(column, pyarrow.string()) for column in columns]
    if not arrays:
        return pyarrow.table({"c1": pyarrow.array([], pyarrow.string())})
    return pyarrow.table(dict(zip([f"c{at}" for at in range(1, width + 1)], arrays, strict=True)))


def records_of(data: bytes, settings: Csv) -> Iterator[list[str]]:
    text = decoded(data)
    dialect: dict[str, Any] = {"delimiter": settings.field, "strict": False}
    if settings.quote:
        dialect |= {"quotechar": settings.quote, "doublequote": settings.escape == settings.quote}
        if settings.escape not in ("", settings.quote):
            dialect["escapechar"] = settings.escape
    else:
        dialect["quoting"] = csv.QUOTE_NONE
    csv.field_size_limit(max(csv.field_size_limit(), RECORD_BYTES))
    is_plain = settings.record in ("\n", "\r\n")
    source = io.StringIO(text, newline="") if is_plain else (part for part in text.split(settings.record) if part)
    try:
        for row in csv.reader(source, **dialect):
            if row and not (settings.comment and row[0].startswith(settings.comment)):
                yield row
    except csv.Error:
        raise failure("CSVParsingError", "An error occurred while parsing the CSV file. Check the file and try again.") from None


def decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise failure("InvalidTextEncoding", "Invalid encoding type. Only UTF-8 encoding is supported.") from None


def without_first(table: pyarrow.Table) -> tuple[list[str], pyarrow.Table]:
    """The header, and the records behind it."""
    if not table.num_rows:
        return [], table
    names = [column[0].as_py() or "" for column in table.columns]
    return names, table.slice(1)


# -- JSON -----------------------------------------------------------------------------------------------------------------


def line_tables(source: Pieces) -> Iterator[pyarrow.Table]:
    for block in source:
        yield json_table([line for line in decoded(block).split("\n") if line.strip()])


def document_tables(pieces: Pieces, progress: Progress) -> Iterator[pyarrow.Table]:
    """Documents one after the other, with or without space between them."""
    decode = json.JSONDecoder().raw_decode
    rest = b""
    wanted = BLOCK_BYTES
    for piece in pieces:
        progress.processed += len(piece)
        rest += piece
        if len(rest) < wanted:
            continue
        cut = rest.rfind(b"}") + 1  # never inside of a character
        found, used = documents_in(rest[:cut].decode(errors="replace"), decode)
        if found:
            yield json_table(found)
            rest = rest[used:]
        wanted = max(BLOCK_BYTES, 2 * len(rest))
        if len(rest) > DOCUMENT_BYTES:
            raise too_long()
    text = decoded(rest)
    found, used = documents_in(text, decode)
    if text.encode()[used:].strip():
        raise failure("JSONParsingError", "An error occurred while parsing the JSON file. Check the file and try again.")
    yield json_table(found)


def documents_in(text: str, decode: Callable[[str, int], tuple[Any, int]]) -> tuple[list[str], int]:
    """The documents that are whole, and how many bytes they take."""
    found: list[str] = []
    at = 0
    while True:
        start = at
        while start < len(text) and text[start] in " \t\r\n\ufeff":
            start += 1
        try:
            _, end = decode(text, start)
        except ValueError:
            return found, len(text[:at].encode())
        found.append(text[start:end])
        at = end


def json_table(documents: list[str]) -> pyarrow.Table:
    return pyarrow.table({"j": pyarrow.array(documents, pyarrow.string())})


# -- Parquet --------------------------------------------------------------------------------------------------------------


class RangeFile(io.RawIOBase):
    """An object as a file that is read where it is needed."""

    def __init__(self, size: int, read_range: Callable[[int, int], bytes], progress: Progress) -> None:
        super().__init__()
        self._size = size
        self._read_range = read_range
        self._progress = progress
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (self._at if whence == io.SEEK_CUR else self._size if whence == io.SEEK_END else 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        if end <= self._at:
            return b""
        data = self._read_range(self._at, end)
        self._at = end
        self._progress.scanned += len(data)
        self._progress.processed += len(data)
        return data


def open_parquet(file: RangeFile) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(pyarrow.PythonFile(file, "r"))
    except (pyarrow.ArrowException, OSError):
        raise parquet_failure() from None


def parquet_tables(file: pyarrow.parquet.ParquetFile, columns: list[str] | None, window: Window | None) -> Iterator[pyarrow.Table]:
    """columns: None is all of them. A window takes the row groups that begin in it."""
    groups = [at for at in range(file.num_row_groups) if window is None or window.start <= start_of(file, at) <= window.end]
    try:
        for batch in file.iter_batches(PARQUET_ROWS, groups, columns, use_threads=False):
            yield pyarrow.Table.from_batches([batch])
    except (pyarrow.ArrowException, OSError):
        raise parquet_failure() from None


def start_of(file: pyarrow.parquet.ParquetFile, group: int) -> int:
    column = file.metadata.row_group(group).column(0)
    return int(column.dictionary_page_offset or column.data_page_offset)


def parquet_failure() -> ServiceError:
    return failure("ParquetParsingError", "An error occurred while parsing the Parquet file. Check the file and try again.")
