"""Rows of numbers, out of any of the table formats: CSV, libsvm, Parquet, RecordIO-protobuf, JSON Lines.

A format's reader takes bytes (a whole object, or a whole pipe) and gives a `Table`. What it cannot read raises `Unreadable`, which
a channel tells as the job's ClientError and a request as its 400.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pilvi_algorithms.kit import recordio
from pilvi_algorithms.kit.content_type import CSV, JSON, JSONLINES, LIBSVM, PARQUET, RECORDIO, ContentType


class Unreadable(ValueError):
    """The data are not in the format they are said to be in."""


@dataclass(frozen=True, slots=True)
class Table:
    features: Any
    """n x d: float32 array, or a scipy.sparse CSR matrix of float32."""
    labels: Any = None
    """n (one label a row) or n x l, float32; None where there are none."""
    weights: Any = None
    """n, float32, or None."""

    def __len__(self) -> int:
        return int(self.features.shape[0])

    @property
    def width(self) -> int:
        return int(self.features.shape[1])

    @property
    def is_sparse(self) -> bool:
        return not isinstance(self.features, np.ndarray)

    def dense(self) -> Any:
        return self.features.toarray() if self.is_sparse else self.features

    def rows(self, chosen: Any) -> Table:
        return Table(
            self.features[chosen],
            None if self.labels is None else self.labels[chosen],
            None if self.weights is None else self.weights[chosen],
        )


def read(data: bytes, kind: ContentType, label_size: int = 0, *, has_weights: bool = False) -> Table:
    """Read a table; the first `label_size` columns are labels where the format itself does not tell them apart."""
    label_size = kind.integer("label_size", label_size)
    if kind.name == CSV:
        return split(_csv(data), label_size, has_weights)
    if kind.name == PARQUET:
        return split(_parquet(data), label_size, has_weights)
    if kind.name == LIBSVM:
        return libsvm(data)
    if kind.name == RECORDIO:
        return recordio_table(data)
    if kind.name in (JSON, JSONLINES):
        return json_table(data, kind)
    raise Unreadable(f"content type {kind.name} is not one of tables")


def split(values: Any, label_size: int, has_weights: bool = False) -> Table:
    """Labels first, then (where there are any) weights, then features."""
    used = label_size + has_weights
    if values.shape[1] <= used:
        raise Unreadable(f"rows have {values.shape[1]} columns, no more than the {used} of label and weight")
    labels = values[:, :label_size] if label_size > 1 else values[:, 0] if label_size else None
    weights = values[:, label_size] if has_weights else None
    return Table(np.ascontiguousarray(values[:, used:]), None if labels is None else np.ascontiguousarray(labels), weights)


def joined(tables: Sequence[Table]) -> Table:
    """All rows of all tables. Narrower sparse tables get as wide as the widest."""
    if len(tables) == 1:
        return tables[0]
    labels = None if tables[0].labels is None else np.concatenate([table.labels for table in tables])
    weights = None if tables[0].weights is None else np.concatenate([table.weights for table in tables])
    if not any(table.is_sparse for table in tables):
        if len(widths := {table.width for table in tables}) > 1:
            raise Unreadable(f"files have different numbers of columns: {', '.join(map(str, sorted(widths)))}")
        return Table(np.concatenate([table.features for table in tables]), labels, weights)
    from scipy import sparse

    width = max(table.width for table in tables)
    parts = [sparse.csr_matrix(table.features) for table in tables]
    for part in parts:
        part.resize(part.shape[0], width)
    return Table(sparse.vstack(parts, format="csr"), labels, weights)


# -- CSV, Parquet ---------------------------------------------------------------------------------------------------------


def _csv(data: bytes) -> Any:
    """All columns as float32; an empty field is NaN."""
    import pyarrow as pa
    from pyarrow import csv

    first = data[: data.find(b"\n") + 1] or data
    if not first.strip():
        raise Unreadable("the first line is empty")
    delimiter = delimiter_of(first.decode(errors="replace"))
    try:
        found = csv.read_csv(
            # Arrow does not see the columns of a single line that does not end.
            io.BytesIO(data if data.endswith(b"\n") else data + b"\n"),
            read_options=csv.ReadOptions(autogenerate_column_names=True),
            parse_options=csv.ParseOptions(delimiter=delimiter),
            convert_options=csv.ConvertOptions(strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise Unreadable(str(error)) from error
    return _numbers(found)


def delimiter_of(line: str) -> str:
    """What stands between a line's fields."""
    for delimiter in (",", "\t", ";", "|"):
        if delimiter in line:
            return delimiter
    return " " if " " in line.strip() else ","


def _parquet(data: bytes) -> Any:
    """One file, or several one behind the other as a pipe brings them."""
    import pyarrow as pa
    from pyarrow import parquet

    pieces, rest = [], data
    while (at := rest.find(b"PAR1PAR1")) >= 0:
        pieces.append(rest[: at + 4])
        rest = rest[at + 4 :]
    try:
        return np.concatenate([_numbers(parquet.read_table(io.BytesIO(piece))) for piece in (*pieces, rest)])
    except (pa.ArrowInvalid, OSError) as error:
        raise Unreadable(str(error)) from error


def _numbers(found: Any) -> Any:
    """An Arrow table as float32, one column after the other."""
    out = np.empty((found.num_rows, found.num_columns), np.float32)
    for at, column in enumerate(found.columns):
        kind = str(column.type)
        if kind in ("string", "large_string", "binary") or kind.startswith(("date", "time", "dictionary", "list", "struct")):
            shown = next((value for value in column.slice(0, 100).to_pylist() if value is not None), "")
            raise Unreadable(f"column {at} holds text, such as {str(shown)[:40]!r}; rows must be numbers without a header line")
        out[:, at] = column.cast("float64").to_numpy() if kind not in ("double", "float") else column.to_numpy()
    return out


# -- libsvm ---------------------------------------------------------------------------------------------------------------


def libsvm(data: bytes) -> Table:
    """`label[:weight] index:value ...`; indices are columns as they stand."""
    from scipy import sparse

    lines = [line.split(b"#")[0].split() for line in data.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise Unreadable("there are no lines")
    try:
        heads = [line[0].split(b":") for line in lines]
        labels = np.array([head[0] for head in heads]).astype(np.float32)
        weights = np.array([head[1] for head in heads]).astype(np.float32) if len(heads[0]) > 1 else None
        counts = np.array([len(line) - 1 for line in lines])
        pairs = b" ".join(b" ".join(line[1:]) for line in lines).replace(b":", b" ").split()
        if len(pairs) != 2 * counts.sum():
            raise ValueError("a feature is not index:value")
        values = np.array(pairs[1::2]).astype(np.float32) if pairs else np.zeros(0, np.float32)
        columns = np.array(pairs[::2]).astype(np.int64) if pairs else np.zeros(0, np.int64)
    except (ValueError, IndexError) as error:
        raise Unreadable(str(error)) from error
    starts = np.concatenate(([0], np.cumsum(counts)))
    width = int(columns.max(initial=-1)) + 1
    return Table(sparse.csr_matrix((values, columns, starts), shape=(len(lines), width)), labels, weights)


# -- RecordIO-protobuf ----------------------------------------------------------------------------------------------------


def recordio_table(data: bytes) -> Table:
    """The tensors `values` of features and label."""
    try:
        if (quick := recordio.read_dense(data)) is not None:
            features, labels = quick
            return Table(features.astype(np.float32, copy=False), None if labels is None else _label_column(labels))
        records = list(recordio.read(data))
    except recordio.BadRecord as error:
        raise Unreadable(str(error)) from error
    if not records:
        raise Unreadable("there are no records")
    return records_table(records)


def records_table(records: Sequence[recordio.Record]) -> Table:
    tensors = [_main(record.features) for record in records]
    return Table(tensors_matrix(tensors), _record_labels(records))


def _record_labels(records: Sequence[recordio.Record]) -> Any:
    if not records[0].label:
        return None
    try:
        return _label_column(np.stack([_main(record.label).dense() for record in records]))
    except ValueError as error:
        raise Unreadable("records have labels of different lengths") from error


def _main(tensors: Any) -> recordio.Tensor:
    found = tensors.get("values") if "values" in tensors else next(iter(tensors.values()), None)
    if not isinstance(found, recordio.Tensor):
        raise Unreadable("a record has no tensor named 'values'")
    return found


def tensors_matrix(tensors: Sequence[recordio.Tensor]) -> Any:
    """Dense where all tensors are, else sparse."""
    if not any(tensor.keys is not None for tensor in tensors):
        if len({len(tensor.values) for tensor in tensors}) > 1:
            raise Unreadable("records have different numbers of features")
        return np.stack([tensor.values for tensor in tensors]).astype(np.float32, copy=False)
    from scipy import sparse

    keys = [np.arange(len(tensor.values)) if tensor.keys is None else tensor.keys for tensor in tensors]
    if any(len(key) != len(tensor.values) for key, tensor in zip(keys, tensors, strict=True)):
        raise Unreadable("a sparse record has not as many keys as values")
    starts = np.concatenate(([0], np.cumsum([len(key) for key in keys])))
    columns = np.concatenate(keys)
    told = max((int(np.prod(tensor.shape)) for tensor in tensors if tensor.shape), default=0)
    width = max(told, int(columns.max(initial=-1)) + 1)
    values = np.concatenate([tensor.values for tensor in tensors]).astype(np.float32)
    out = sparse.csr_matrix((values, columns, starts), shape=(len(tensors), width))
    out.sum_duplicates()
    return out


def _label_column(labels: Any) -> Any:
    labels = labels.astype(np.float32, copy=False)
    return np.ascontiguousarray(labels[:, 0]) if labels.ndim == 2 and labels.shape[1] == 1 else labels


# -- JSON -----------------------------------------------------------------------------------------------------------------


def json_table(data: bytes, kind: ContentType) -> Table:
    return Table(tensors_matrix([instance_tensor(instance) for instance in json_instances(data, kind)]))


def json_instances(data: bytes, kind: ContentType) -> list[Any]:
    """The instances: of `{"instances": [...]}`, or one a line."""
    try:
        if kind.name == JSONLINES:
            found = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
        else:
            document = json.loads(data)
            found = document["instances"] if isinstance(document, dict) else []
    except (ValueError, KeyError) as error:
        raise Unreadable(f"it is not JSON with a list of instances: {error}") from error
    if not isinstance(found, list) or not found:
        raise Unreadable("it has no instances")
    return found


def instance_tensor(instance: Any, name: str = "features") -> recordio.Tensor:
    """`{"features": [...]}`, `{"features": {"values": [...], "keys": ..., "shape": ...}}`, either below `data`, or the list alone."""
    found = instance
    for key in ("data", name):
        if isinstance(found, dict) and key in found:
            found = found[key]
    try:
        if isinstance(found, dict):
            keys, shape = found.get("keys"), found.get("shape") or ()
            return recordio.Tensor(
                np.asarray(found["values"], np.float32),
                None if keys is None else np.asarray(keys, np.int64),
                tuple(int(size) for size in np.atleast_1d(shape)) if keys is not None else (),
            )
        return recordio.Tensor(np.asarray(found, np.float32).ravel())
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"an instance has no numbers under {name!r}") from error
