"""What an inventory says of a version, and the three kinds of files it says it in. Rows come and go: memory stays flat.

Source: S3 User Guide, "Amazon S3 Inventory list", "Locating your inventory list": names, order and types of columns.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import quote_plus

from pilvi.core.service import Context
from pilvi.services.s3.acl import answer as acl_answer
from pilvi.services.s3.attributes import checksum_of
from pilvi.services.s3.catalog import Bucket, account_of, object_owner
from pilvi.services.s3.class_answers import LIFECYCLE, known_rules
from pilvi.services.s3.classes import class_of
from pilvi.services.s3.history import is_marker, version_of
from pilvi.services.s3.lifecycle_rules import expiration_of
from pilvi.services.s3.tiers import tier_of, used_of

ROWS_A_FILE = 200_000
ROWS_A_GROUP = 10_000
SUFFIX = {"CSV": "csv.gz", "ORC": "orc", "Parquet": "parquet"}

FIELDS = (
    "Size",
    "LastModifiedDate",
    "ETag",
    "StorageClass",
    "IsMultipartUploaded",
    "ReplicationStatus",
    "EncryptionStatus",
    "ObjectLockRetainUntilDate",
    "ObjectLockMode",
    "ObjectLockLegalHoldStatus",
    "IntelligentTieringAccessTier",
    "BucketKeyStatus",
    "ChecksumAlgorithm",
    "ObjectAccessControlList",
    "ObjectOwner",
    "LifecycleExpirationDate",
    "IntelligentTieringReferenceDate",
)
"""Optional fields, in the order of their columns."""
INSTANTS = ("LastModifiedDate", "ObjectLockRetainUntilDate", "LifecycleExpirationDate", "IntelligentTieringReferenceDate")
TRUTHS = ("IsLatest", "IsDeleteMarker", "IsMultipartUploaded")
ENCRYPTIONS = {"AES256": "SSE-S3", "aws:kms": "SSE-KMS", "aws:kms:dsse": "DSSE-KMS"}


def columns_of(configuration: Mapping[str, Any]) -> list[str]:
    asked = configuration.get("OptionalFields") or ()
    versions = ["VersionId", "IsLatest", "IsDeleteMarker"] if configuration["IncludedObjectVersions"] == "All" else []
    return ["Bucket", "Key", *versions, *(field for field in FIELDS if field in asked)]


class Teller:
    """Says of a version what the columns ask for: text, whole numbers, truth, instants, or None."""

    def __init__(self, ctx: Context, bucket: Bucket, columns: Sequence[str]) -> None:
        self._ctx, self._bucket = ctx, bucket
        self._now = ctx.clock.time_s()
        self._tell: list[Callable[[str, Mapping[str, Any], bool], Any]] = [getattr(self, f"_{name}") for name in columns]

    def row(self, key: str, value: Mapping[str, Any], is_latest: bool) -> list[Any]:
        return [tell(key, value, is_latest) for tell in self._tell]

    def _Bucket(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str:  # noqa: N802, ARG002 - named as its column
        return self._bucket.name

    def _Key(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str:  # noqa: N802, ARG002
        return key

    def _VersionId(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str:  # noqa: N802, ARG002
        found = version_of(dict(value))
        return "" if found == "null" else found

    def _IsLatest(self, key: str, value: Mapping[str, Any], is_latest: bool) -> bool:  # noqa: N802, ARG002
        return is_latest

    def _IsDeleteMarker(self, key: str, value: Mapping[str, Any], is_latest: bool) -> bool:  # noqa: N802, ARG002
        return is_marker(dict(value))

    def _Size(self, key: str, value: Mapping[str, Any], is_latest: bool) -> int | None:  # noqa: N802, ARG002
        return value.get("size")

    def _LastModifiedDate(self, key: str, value: Mapping[str, Any], is_latest: bool) -> datetime:  # noqa: N802, ARG002
        return datetime.fromtimestamp(value["mtime"], UTC)

    def _ETag(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        return value.get("etag")

    def _StorageClass(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        return class_of(value) if "size" in value else None

    def _IsMultipartUploaded(self, key: str, value: Mapping[str, Any], is_latest: bool) -> bool | None:  # noqa: N802, ARG002
        return "n" in value if "size" in value else None

    def _ReplicationStatus(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        return value.get("repl")

    def _EncryptionStatus(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        if "size" not in value:
            return None
        enc = value.get("enc")
        if enc is None:
            return "SSE-S3"
        return "SSE-C" if "c" in enc else ENCRYPTIONS[value["head"].get("ServerSideEncryption", "AES256")]

    def _BucketKeyStatus(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        if "size" not in value:
            return None
        return "ENABLED" if (value.get("head") or {}).get("BucketKeyEnabled") else "DISABLED"

    def _ObjectLockRetainUntilDate(self, key: str, value: Mapping[str, Any], is_latest: bool) -> datetime | None:  # noqa: N802, ARG002
        lock = value.get("lock")
        return lock["until"] if lock else None

    def _ObjectLockMode(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        lock = value.get("lock")
        return lock["mode"] if lock else None

    def _ObjectLockLegalHoldStatus(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        return None if "size" not in value else "ON" if value.get("hold") else "OFF"

    def _IntelligentTieringAccessTier(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        is_tiered = "size" in value and class_of(value) == "INTELLIGENT_TIERING"
        return tier_of(value, self._now) if is_tiered else None

    def _IntelligentTieringReferenceDate(self, key: str, value: Mapping[str, Any], is_latest: bool) -> datetime | None:  # noqa: N802, ARG002
        is_tiered = "size" in value and class_of(value) == "INTELLIGENT_TIERING"
        return datetime.fromtimestamp(used_of(value), UTC) if is_tiered else None

    def _ChecksumAlgorithm(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        return next(iter(checksum_of(value))).removeprefix("Checksum") if value.get("sum") else None

    def _ObjectAccessControlList(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        if "size" not in value:
            return None
        grants = acl_answer(account_of(self._bucket, dict(value)), value.get("acl"))["Grants"]
        told = [
            {
                "type": "Group" if "URI" in grant["Grantee"] else "CanonicalUser",
                ("uri" if "URI" in grant["Grantee"] else "canonicalId"): grant["Grantee"].get("URI") or grant["Grantee"].get("ID"),
                "permission": grant["Permission"],
            }
            for grant in grants
        ]
        document = {"version": "2022-11-10", "status": "AVAILABLE", "grants": told}
        return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()

    def _ObjectOwner(self, key: str, value: Mapping[str, Any], is_latest: bool) -> str | None:  # noqa: N802, ARG002
        return object_owner(self._bucket, dict(value))["ID"] if "size" in value else None

    def _LifecycleExpirationDate(self, key: str, value: Mapping[str, Any], is_latest: bool) -> datetime | None:  # noqa: N802
        if not is_latest or "size" not in value or LIFECYCLE not in self._bucket.value:
            return None
        found = expiration_of(known_rules(self._ctx, self._bucket), key, dict(value))
        return datetime.fromtimestamp(int(found[0]), UTC) if found is not None else None


# -- files ----------------------------------------------------------------------------------------------------------------


def files_of(form: str, columns: list[str], rows: Iterator[list[Any]]) -> Iterator[bytes]:
    """The rows as finished files, at most ROWS_A_FILE each; one empty file where there are none."""
    write = write_csv if form == "CSV" else write_arrow
    is_first = True
    while True:
        some = islice(rows, ROWS_A_FILE)
        head = list(islice(some, 1))
        if not head and not is_first:
            return
        is_first = False
        yield write(form, columns, joined(head, some))
        if not head:
            return


def joined(head: list[list[Any]], rest: Iterator[list[Any]]) -> Iterator[list[Any]]:
    yield from head
    yield from rest


def write_csv(form: str, columns: list[str], rows: Iterator[list[Any]]) -> bytes:  # noqa: ARG001 - alike
    into = io.BytesIO()
    key = columns.index("Key")
    with gzip.GzipFile(fileobj=into, mode="wb", mtime=0) as packed, io.TextIOWrapper(packed, "utf-8", newline="") as text:
        lines = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for row in rows:
            told = [as_text(value) for value in row]
            told[key] = quote_plus(told[key], safe="/")
            lines.writerow(told)
    return into.getvalue()


def as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000Z"
    return str(value)


def snake(name: str) -> str:
    """Columns of ORC and Parquet files: `last_modified_date`, `e_tag`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def write_arrow(form: str, columns: list[str], rows: Iterator[list[Any]]) -> bytes:
    import pyarrow

    schema = pyarrow.schema([(snake(name), kind_of(pyarrow, name)) for name in columns])
    into = pyarrow.BufferOutputStream()
    if form == "Parquet":
        import pyarrow.parquet

        writer: Any = pyarrow.parquet.ParquetWriter(into, schema)
    else:
        import pyarrow.orc

        writer = pyarrow.orc.ORCWriter(into)
    wrote = False
    while (some := list(islice(rows, ROWS_A_GROUP))) or not wrote:
        wrote = True
        arrays = [pyarrow.array([row[place] for row in some], type=schema.field(place).type) for place in range(len(columns))]
        writer.write(pyarrow.Table.from_arrays(arrays, schema=schema))
    writer.close()
    return bytes(into.getvalue().to_pybytes())


def kind_of(pyarrow: Any, name: str) -> Any:
    if name == "Size":
        return pyarrow.int64()
    if name in TRUTHS:
        return pyarrow.bool_()
    return pyarrow.timestamp("ms", tz="UTC") if name in INSTANTS else pyarrow.string()


def file_schema(form: str, columns: list[str]) -> str:
    """`fileSchema` of the manifest, as each format words it."""
    if form == "CSV":
        return ", ".join(columns)
    if form == "ORC":
        kinds = {"Size": "bigint", **dict.fromkeys(TRUTHS, "boolean"), **dict.fromkeys(INSTANTS, "timestamp")}
        return "struct<" + ",".join(f"{snake(name)}:{kinds.get(name, 'string')}" for name in columns) + ">"
    kinds = {
        "Size": "optional int64 size;",
        **{name: f"optional boolean {snake(name)};" for name in TRUTHS},
        **{name: f"optional int64 {snake(name)} (TIMESTAMP_MILLIS);" for name in INSTANTS},
    }
    needed = {name: f"required binary {snake(name)} (UTF8);" for name in ("Bucket", "Key")}
    told = (needed.get(name) or kinds.get(name) or f"optional binary {snake(name)} (UTF8);" for name in columns)
    return "message s3.inventory { " + " ".join(told) + " }"
