"""Which objects a job is about: a CSV file, an inventory report, or what a generator finds. Read in pieces: memory stays flat.

A manifest of an inventory is its manifest.json, which names packed CSV files and their columns. Keys are percent-encoded in all of them.

Source: S3 User Guide, "Specifying a manifest", "Creating an S3 Batch Operations job": generated manifests.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, cast
from urllib.parse import quote_plus, unquote_plus

from pilvi.core.errors import ServiceError
from pilvi.core.service import Access, Context
from pilvi.core.streams import ByteStream
from pilvi.services.s3control.job import INVENTORY

Item = list[str]
"""bucket, key, version id ('' for none)"""


class BadManifest(Exception):
    """FailureCode and FailureReason of the job."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Pieces(io.RawIOBase):
    """A body as a file."""

    def __init__(self, pieces: Iterable[bytes | bytearray]) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(into), len(self._left))
        into[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def items_of(ctx: Context, service: Context, job: Mapping[str, Any]) -> Iterator[Item]:
    """ctx: as the job's role. service: S3 itself, in the account. BadManifest, or the errors of reading it."""
    if "ManifestGenerator" in job:
        yield from generated(ctx, service, job["ManifestGenerator"]["S3JobManifestGenerator"])
        return
    manifest = job["Manifest"]
    location = manifest["Location"]
    body = open_object(ctx, location["ObjectArn"], location.get("ObjectVersionId"), location["ETag"])
    items = inventory(ctx, body) if manifest["Spec"]["Format"] == INVENTORY else listed(body, manifest["Spec"]["Fields"])
    first = ""
    for item in items:
        first = first or item[0]
        if item[0] != first:
            raise BadManifest("ManifestInvalid", "The manifest names objects of more than one bucket.")
        yield item


def open_object(ctx: Context, arn: str, version_id: str | None, etag: str) -> IO[bytes]:
    bucket, _, key = arn.partition(":::")[2].partition("/")
    version = {"VersionId": version_id} if version_id else {}
    found = ctx.call("s3", "GetObject", Bucket=bucket, Key=key, **version)
    if etag and str(found["ETag"]).strip('"') != etag.strip('"'):
        raise BadManifest("ManifestETagMismatch", "The manifest's ETag is not the one that the job names.")
    return cast("IO[bytes]", io.BufferedReader(Pieces(ByteStream.of(found["Body"]))))


def listed(body: IO[bytes], fields: list[str]) -> Iterator[Item]:
    places = {name: fields.index(name) for name in ("Bucket", "Key", "VersionId") if name in fields}
    text = io.TextIOWrapper(body, "utf-8-sig", newline="")
    try:
        for number, row in enumerate(csv.reader(text), 1):
            if not row:
                continue
            if len(row) != len(fields):
                raise BadManifest("ManifestInvalid", f"Line {number} of the manifest has {len(row)} columns, not {len(fields)}.")
            version_id = row[places["VersionId"]] if "VersionId" in places else ""
            yield [row[places["Bucket"]], unquote_plus(row[places["Key"]]), "" if version_id == "null" else version_id]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadManifest("ManifestInvalid", f"The manifest cannot be read: {error}") from None


def inventory(ctx: Context, body: IO[bytes]) -> Iterator[Item]:
    try:
        manifest = json.load(body)
        fields = [name.strip() for name in manifest["fileSchema"].split(",")]
        files, arn = manifest["files"], manifest["destinationBucket"]
        if manifest["fileFormat"] != "CSV":
            raise BadManifest("ManifestInvalid", "Only inventory reports in the CSV format can be manifests.")
        if "Bucket" not in fields or "Key" not in fields:
            raise BadManifest("ManifestInvalid", "The inventory report has no columns Bucket and Key.")
        for file in files:
            packed = open_object(ctx, f"{arn}/{file['key']}", None, "")
            yield from listed(cast("IO[bytes]", gzip.GzipFile(fileobj=packed)), fields)
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise BadManifest("ManifestInvalid", f"The inventory report cannot be read: {error}") from None


# -- generated ------------------------------------------------------------------------------------------------------------


def generated(ctx: Context, service: Context, generator: Mapping[str, Any]) -> Iterator[Item]:
    """What a filter finds in a bucket, as S3 sees it; the role must be allowed to have the bucket listed."""
    arn = generator["SourceBucket"]
    bucket = arn.partition(":::")[2]
    ctx.authorize(Access("s3:PutInventoryConfiguration", arn))
    chosen = generator.get("Filter") or {}
    token: str | None = None
    while True:
        more = {"ContinuationToken": token} if token else {}
        expected = {"ExpectedBucketOwner": generator["ExpectedBucketOwner"]} if "ExpectedBucketOwner" in generator else {}
        page = service.call("s3", "ListObjectsV2", Bucket=bucket, **more, **expected)
        for entry in page.get("Contents") or ():
            if is_wanted(chosen, entry) and has_status(service, bucket, entry, chosen.get("ObjectReplicationStatuses")):
                yield [bucket, entry["Key"], ""]
        token = page.get("NextContinuationToken")
        if not token:
            return


def is_wanted(chosen: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    key, size, made = entry["Key"], entry["Size"], entry["LastModified"]
    names = chosen.get("KeyNameConstraint") or {}
    return (
        ("CreatedAfter" not in chosen or made > chosen["CreatedAfter"])
        and ("CreatedBefore" not in chosen or made < chosen["CreatedBefore"])
        and size > chosen.get("ObjectSizeGreaterThanBytes", -1)
        and size < chosen.get("ObjectSizeLessThanBytes", size + 1)
        and (not chosen.get("MatchAnyStorageClass") or entry.get("StorageClass", "STANDARD") in chosen["MatchAnyStorageClass"])
        and (not names.get("MatchAnyPrefix") or key.startswith(tuple(names["MatchAnyPrefix"])))
        and (not names.get("MatchAnySuffix") or key.endswith(tuple(names["MatchAnySuffix"])))
        and (not names.get("MatchAnySubstring") or any(text in key for text in names["MatchAnySubstring"]))
    )


def has_status(service: Context, bucket: str, entry: Mapping[str, Any], wanted: list[str] | None) -> bool:
    """Whether the object's replication has one of these statuses."""
    if not wanted:
        return True
    try:
        status = service.call("s3", "HeadObject", Bucket=bucket, Key=entry["Key"]).get("ReplicationStatus") or "NONE"
    except ServiceError:
        return False  # it went meanwhile
    return status in wanted


def keep_generated(ctx: Context, job: Mapping[str, Any], items: Iterable[Item]) -> dict[str, Any] | None:
    """Write the manifest that was generated where the job wants it; gives GeneratedManifestDescriptor."""
    generator = job["ManifestGenerator"]["S3JobManifestGenerator"]
    if not generator["EnableManifestOutput"]:
        return None
    to = generator["ManifestOutputLocation"]
    name, folder = to["Bucket"].partition(":::")[2], f"{to.get('ManifestPrefix', '').rstrip('/')}/job-{job['JobId']}".lstrip("/")
    lines = "".join(f'"{bucket}","{quote_plus(key, safe="/")}"\n' for bucket, key, _ in items)
    packed = gzip.compress(lines.encode(), mtime=0)
    encryption = to.get("ManifestEncryption") or {}
    sealing: dict[str, Any] = {"ServerSideEncryption": "AES256"} if "SSES3" in encryption else {}
    if "SSEKMS" in encryption:
        sealing = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": encryption["SSEKMS"]["KeyId"]}
    data = f"{folder}/data/{hashlib.md5(packed).hexdigest()}.csv.gz"
    ctx.call("s3", "PutObject", Bucket=name, Key=data, Body=packed, **sealing)
    manifest = {
        "sourceBucket": generator["SourceBucket"].partition(":::")[2],
        "destinationBucket": to["Bucket"],
        "version": "2021-11-30",
        "creationTimestamp": str(int(ctx.clock.time_s() * 1000)),
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key",
        "files": [{"key": data, "size": len(packed), "MD5checksum": hashlib.md5(packed).hexdigest()}],
    }
    key = f"{folder}/manifest.json"
    put = ctx.call("s3", "PutObject", Bucket=name, Key=key, Body=json.dumps(manifest).encode(), **sealing)
    return {"Format": to["ManifestFormat"], "Location": {"ObjectArn": f"{to['Bucket']}/{key}", "ETag": str(put["ETag"]).strip('"')}}
