"""Listings of objects, versions and uploads: pages in key order, with folders by delimiter.

    table -- walk --> rows and folders in order -- page --> entries, and where the next page begins

A folder (common prefix) is one entry however much lies in it: the walk seeks past it and never reads its rows.
Source: S3 API Reference, ListObjectsV2, ListObjects, ListObjectVersions, ListMultipartUploads.
"""

from __future__ import annotations

import heapq
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote

from pilvi.core.errors import Invalid
from pilvi.core.listed import Listed, ListedRow
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.s3.access import LENS
from pilvi.services.s3.catalog import Bucket, get_bucket, object_owner, owner_of
from pilvi.services.s3.condition import instant_of
from pilvi.services.s3.digest import COMPOSITE, FULL_OBJECT
from pilvi.services.s3.errors import invalid_argument
from pilvi.services.s3.history import find_current, is_marker, version_of
from pilvi.services.s3.multipart import initiator_of
from pilvi.services.s3.object_lambda import rewritten_list
from pilvi.services.s3.restore import restore_status
from pilvi.storage.records import Row, Table

ops = Operations()

_TURN = threading.Lock()
"""Pages are read one after the other: the store lets go of the interpreter at each row, and sixteen threads that take it from each other
a thousand times a page cost four times what they do in turn. Listings run in threads, so nobody else ever waits."""

PAGE = 1000
FOLDER_BATCH = 100
"""Rows read at once where folders are expected: most of what lies beyond the first of a folder is thrown away."""

PAST_FOLDER = "\U0010ffff" * 257
"""Behind every key that a folder can hold: keys end at 1,024 bytes."""
PAST_VERSIONS = "\0~"
"""Behind every version or upload of a key: their ids go on with NUL and hexadecimal digits."""


class Page(NamedTuple):
    rows: list[Row]
    folders: list[str]
    last: str
    """Row id or folder the page ends with."""
    is_truncated: bool


@ops.anywhere
def list_objects_v2(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of current objects.

    req: Bucket, Prefix, Delimiter, MaxKeys (1,000; 0 gives an empty page), ContinuationToken, StartAfter, FetchOwner, EncodingType.
    Errors: NoSuchBucket; InvalidArgument - a foreign token, a negative MaxKeys.
    """
    if LENS in req:
        return rewritten_list(ctx, "ListObjectsV2", req)
    bucket = get_bucket(ctx, req["Bucket"])
    prefix, delimiter, limit = scope_of(req, "MaxKeys")
    token = req.get("ContinuationToken")
    try:
        position = decode_token(token) if token is not None else req.get("StartAfter") or ""
    except Invalid:
        raise invalid_argument("The continuation token provided is incorrect", "continuation-token", token) from None
    page = page_of(ctx, (bucket.tables.objects,), prefix, delimiter, position, limit)
    owner = owner_of(bucket) if req.get("FetchOwner") else None
    answer: dict[str, Any] = {
        "Name": bucket.name,
        "Prefix": prefix,
        "MaxKeys": limit,
        "IsTruncated": page.is_truncated,
        "KeyCount": len(page.rows) + len(page.folders),
        "Contents": contents_of(ctx, req, page.rows, owner),
        "CommonPrefixes": [{"Prefix": folder} for folder in page.folders],
        "Delimiter": delimiter or None,
        "StartAfter": req.get("StartAfter"),
        "ContinuationToken": token,
        "NextContinuationToken": encode_token(page.last) if page.is_truncated else None,
    }
    if bucket.has_acls and owner is not None:
        show_owners(bucket, page.rows, answer["Contents"])
    return in_encoding(req, answer, "Contents")


@ops.anywhere
def list_objects(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same in its first form: pages go on from a key. NextMarker is given where folders may end a page.

    req: Bucket, Prefix, Delimiter, MaxKeys, Marker, EncodingType.
    Errors: as list_objects_v2.
    """
    if LENS in req:
        return rewritten_list(ctx, "ListObjects", req)
    bucket = get_bucket(ctx, req["Bucket"])
    prefix, delimiter, limit = scope_of(req, "MaxKeys")
    marker = req.get("Marker") or ""
    page = page_of(ctx, (bucket.tables.objects,), prefix, delimiter, marker, limit)
    owner = owner_of(bucket)
    answer: dict[str, Any] = {
        "Name": bucket.name,
        "Prefix": prefix,
        "Marker": marker,
        "MaxKeys": limit,
        "IsTruncated": page.is_truncated,
        "Contents": with_restores(ctx, req, page.rows, [object_entry(row, owner) for row in page.rows]),
        "CommonPrefixes": [{"Prefix": folder} for folder in page.folders],
        "Delimiter": delimiter or None,
        "NextMarker": page.last if page.is_truncated and delimiter else None,
    }
    if bucket.has_acls and owner is not None:
        show_owners(bucket, page.rows, answer["Contents"])
    return in_encoding(req, answer, "Contents")


def contents_of(
    ctx: Context, req: Mapping[str, Any], rows: Sequence[Row], owner: Mapping[str, str] | None
) -> Sequence[dict[str, Any]]:
    """The objects of a page; as plain rows where nothing rare is asked for, which is nearly always."""
    if owner is not None or "OptionalObjectAttributes" in req:
        return with_restores(ctx, req, rows, [object_entry(row, owner) for row in rows])
    is_encoded = req.get("EncodingType") is not None
    keys = [row[0] for row in rows]
    listed: list[ListedRow] = []
    for key, row in zip(encoded_keys(keys) if is_encoded else keys, rows, strict=True):
        value = row[1]
        sums = value["sum"]
        kind = COMPOSITE if "-" in sums[1] else FULL_OBJECT
        class_ = value["head"].get("StorageClass", "STANDARD") if "head" in value else "STANDARD"
        listed.append((key, value["mtime"], value["etag"], value["size"], sums[0], kind, class_))
    return Listed(listed, is_encoded=is_encoded)


def encoded_keys(keys: list[str]) -> list[str]:
    """Each percent-encoded; looked through together, because most pages hold one folder, and need nothing but for its name."""
    if not keys or are_plain(keys):
        return keys
    cut = keys[0].rfind("/") + 1
    folder = keys[0][:cut]
    if cut and keys[-1].startswith(folder):  # and so does every key between them
        names = [key[cut:] for key in keys]
        if are_plain(names):
            shown = quote(folder)
            return [shown + name for name in names]
    shown_folder = last = ""
    encoded = []
    for key in keys:
        folder, slash, name = key.rpartition("/")
        if folder != last:  # neighbours lie in few folders
            last, shown_folder = folder, quote(folder)
        encoded.append(f"{shown_folder}{slash}{percent(name)}")
    return encoded


def are_plain(texts: list[str]) -> bool:
    """Whether none of them holds a character that would be encoded."""
    joined = "".join(texts)
    return joined.isascii() and not joined.encode().translate(None, PLAIN)


PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_.~-"


def object_entry(row: Row, owner: Mapping[str, str] | None) -> dict[str, Any]:
    value = row.value
    algorithm, sum_ = value["sum"]
    entry = {
        "Key": row.id,
        "LastModified": instant_of(value["mtime"]),
        "ETag": f'"{value["etag"]}"',
        "ChecksumAlgorithm": [algorithm],
        "ChecksumType": COMPOSITE if "-" in sum_ else FULL_OBJECT,
        "Size": value["size"],
        "StorageClass": value["head"].get("StorageClass", "STANDARD") if "head" in value else "STANDARD",
    }
    if owner is not None:
        entry["Owner"] = owner
    return entry


def with_restores(ctx: Context, req: Mapping[str, Any], rows: Sequence[Row], entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How far the restores of archived objects are, where the request asks for it."""
    if "RestoreStatus" in (req.get("OptionalObjectAttributes") or ()):
        for row, entry in zip(rows, entries, strict=True):
            if "restore" in row.value and (status := restore_status(row.value, ctx.clock.time_s())) is not None:
                entry["RestoreStatus"] = status
    return entries


def show_owners(bucket: Bucket, rows: Sequence[Row], entries: Sequence[dict[str, Any]]) -> None:
    """Whose each object is, where other accounts may own some."""
    for row, entry in zip(rows, entries, strict=True):
        if "owner" in row.value:
            entry["Owner"] = object_owner(bucket, row.value)


# -- versions -------------------------------------------------------------------------------------------------------------


@ops
def list_object_versions(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of all versions and delete markers, by key, newest first.

    req: Bucket, Prefix, Delimiter, MaxKeys, KeyMarker, VersionIdMarker, EncodingType.
    Errors: InvalidArgument - a version marker without a key marker.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    prefix, delimiter, limit = scope_of(req, "MaxKeys")
    key_marker, version_marker = req.get("KeyMarker") or "", req.get("VersionIdMarker") or ""
    if version_marker and not key_marker:
        raise invalid_argument("A version-id marker cannot be specified without a key marker.", "version-id-marker", version_marker)
    position = version_position(ctx, bucket, key_marker, version_marker, delimiter, prefix)
    tables = bucket.tables
    page = page_of(ctx, (tables.objects, tables.markers, tables.versions), prefix, delimiter, position, limit)
    owner = owner_of(bucket)
    entries = with_restores(ctx, req, page.rows, [version_entry(row, owner) for row in page.rows])
    if bucket.has_acls:
        show_owners(bucket, page.rows, entries)
    answer: dict[str, Any] = {
        "Name": bucket.name,
        "Prefix": prefix,
        "KeyMarker": key_marker,
        "VersionIdMarker": version_marker,
        "MaxKeys": limit,
        "IsTruncated": page.is_truncated,
        "Versions": [entry for entry, row in zip(entries, page.rows, strict=True) if not is_marker(row.value)],
        "DeleteMarkers": [entry for entry, row in zip(entries, page.rows, strict=True) if is_marker(row.value)],
        "CommonPrefixes": [{"Prefix": folder} for folder in page.folders],
        "Delimiter": delimiter or None,
    }
    if page.is_truncated:
        answer["NextKeyMarker"] = key_of(page.last)
        if page.rows and page.rows[-1].id == page.last:
            answer["NextVersionIdMarker"] = version_of(page.rows[-1].value)
    return in_encoding(req, answer, "Versions", "DeleteMarkers")


def version_position(ctx: Context, bucket: Bucket, key: str, version_id: str, delimiter: str, prefix: str) -> str:
    """The row id that a pair of markers stands for."""
    if not key or ends_in_folder(key, delimiter, prefix):
        return key
    if not version_id:
        return key + PAST_VERSIONS
    current = find_current(ctx, bucket, key)
    if current is not None and version_of(current.value) == version_id:
        return key
    if version_id == "null":
        pointer = ctx.store.get(bucket.tables.nulls, key)
        return f"{key}\0{pointer.value['at']}" if pointer is not None else key + PAST_VERSIONS
    return f"{key}\0{version_id[:16]}"


def version_entry(row: Row, owner: Mapping[str, str]) -> dict[str, Any]:
    key = key_of(row.id)
    latest = {"VersionId": version_of(row.value), "IsLatest": key == row.id}
    if is_marker(row.value):
        return {"Key": key, "LastModified": instant_of(row.value["mtime"]), "Owner": owner, **latest}
    return object_entry(row, owner) | {"Key": key} | latest


# -- uploads --------------------------------------------------------------------------------------------------------------


@ops
def list_multipart_uploads(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of uploads in progress, by key and then by the time they began.

    req: Bucket, Prefix, Delimiter, MaxUploads (1,000), KeyMarker, UploadIdMarker, EncodingType.
    Errors: InvalidArgument.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    prefix, delimiter, limit = scope_of(req, "MaxUploads")
    key_marker, id_marker = req.get("KeyMarker") or "", req.get("UploadIdMarker") or ""
    position = key_marker
    if key_marker and not ends_in_folder(key_marker, delimiter, prefix):
        position = f"{key_marker}\0{id_marker}" if id_marker else key_marker + PAST_VERSIONS
    page = page_of(ctx, (bucket.tables.uploads,), prefix, delimiter, position, limit)
    answer: dict[str, Any] = {
        "Bucket": bucket.name,
        "Prefix": prefix,
        "KeyMarker": key_marker,
        "UploadIdMarker": id_marker,
        "MaxUploads": limit,
        "IsTruncated": page.is_truncated,
        "Uploads": [upload_entry(bucket, row) for row in page.rows],
        "CommonPrefixes": [{"Prefix": folder} for folder in page.folders],
        "Delimiter": delimiter or None,
    }
    if page.is_truncated:
        answer["NextKeyMarker"], _, next_id = page.last.partition("\0")
        answer["NextUploadIdMarker"] = next_id or None
    return in_encoding(req, answer, "Uploads")


def upload_entry(bucket: Bucket, row: Row) -> dict[str, Any]:
    key, _, upload_id = row.id.partition("\0")
    upload = row.value
    entry: dict[str, Any] = {
        "Key": key,
        "UploadId": upload_id,
        "Initiated": instant_of(upload["at"]),
        "StorageClass": (upload["row"].get("head") or {}).get("StorageClass", "STANDARD"),
        "Owner": object_owner(bucket, upload["row"]),
        "Initiator": initiator_of(bucket, upload),
    }
    if "algorithm" in upload:
        entry |= {"ChecksumAlgorithm": upload["algorithm"], "ChecksumType": upload["type"]}
    return entry


# -- pages ----------------------------------------------------------------------------------------------------------------


def scope_of(req: Mapping[str, Any], limit_member: str) -> tuple[str, str, int]:
    """(prefix, delimiter, how many entries at most)"""
    limit = req.get(limit_member, PAGE)
    if limit < 0:
        name = {"MaxKeys": "maxKeys", "MaxUploads": "max-uploads"}[limit_member]
        raise invalid_argument(f"Argument {name} must be an integer between 0 and 2147483647", name, limit)
    return req.get("Prefix") or "", req.get("Delimiter") or "", min(limit, PAGE)


def page_of(ctx: Context, tables: Sequence[Table], prefix: str, delimiter: str, position: str, limit: int) -> Page:
    """The entries beyond `position`: `limit` of them, and whether there are more."""
    if limit == 0:
        return Page([], [], "", False)
    after = position + PAST_FOLDER if ends_in_folder(position, delimiter, prefix) else position
    if len(tables) == 1 and not delimiter:
        with _TURN:
            rows = ctx.store.scan(tables[0], prefix=prefix, after=after, limit=limit + 1)
        return Page(rows[:limit], [], rows[limit - 1].id if len(rows) > limit else "", len(rows) > limit)
    walks = [walk(ctx, table, prefix, delimiter, after, limit + 1) for table in tables]
    entries = walks[0] if len(walks) == 1 else without_repeats(heapq.merge(*walks, key=place_of))
    found = list(islice(entries, limit + 1))
    chosen = found[:limit]
    return Page(
        [entry for entry in chosen if isinstance(entry, Row)],
        [entry for entry in chosen if isinstance(entry, str)],
        place_of(chosen[-1]) if chosen else "",
        len(found) > limit,
    )


def ends_in_folder(position: str, delimiter: str, prefix: str) -> bool:
    """Whether a page ended with this folder: then the next begins behind everything in it."""
    if not delimiter or not position.startswith(prefix):
        return False
    cut = position.find(delimiter, len(prefix))
    return cut >= 0 and cut + len(delimiter) == len(position)


def walk(ctx: Context, table: Table, prefix: str, delimiter: str, after: str, batch: int) -> Iterator[Row | str]:
    """Rows in order, and each folder once in place of its rows."""
    if delimiter:
        batch = min(batch, FOLDER_BATCH)
    while True:
        with _TURN:
            rows = ctx.store.scan(table, prefix=prefix, after=after, limit=batch)
        if not rows:
            return
        folder = ""
        for row in rows:
            if folder and row.id.startswith(folder):
                continue
            cut = key_of(row.id).find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                yield row
            else:
                folder = row.id[: cut + len(delimiter)]
                yield folder
        last = rows[-1].id
        if folder and last.startswith(folder):
            after = folder + PAST_FOLDER
        elif len(rows) < batch:
            return
        else:
            after = last


def without_repeats(entries: Iterator[Row | str]) -> Iterator[Row | str]:
    """Folders that several tables know, once."""
    before: Row | str | None = None
    for entry in entries:
        if not isinstance(entry, str) or entry != before:
            yield entry
        before = entry


def place_of(entry: Row | str) -> str:
    return entry if isinstance(entry, str) else entry.id


def key_of(row_id: str) -> str:
    return row_id.partition("\0")[0]


# -- encoding -------------------------------------------------------------------------------------------------------------

ENCODED = ("Prefix", "Delimiter", "StartAfter", "Marker", "NextMarker", "KeyMarker", "NextKeyMarker")


def in_encoding(req: Mapping[str, Any], answer: dict[str, Any], *lists: str) -> dict[str, Any]:
    """Keys percent-encoded where the client asks for it: XML cannot hold every character a key can."""
    if req.get("EncodingType") is None:
        return answer
    if req["EncodingType"] != "url":
        raise invalid_argument("Invalid Encoding Method specified in Request", "encoding-type", req["EncodingType"])
    answer["EncodingType"] = "url"
    for name in ENCODED:
        if answer.get(name):
            answer[name] = percent(answer[name])
    for name in lists:
        if not isinstance(answer[name], Listed):
            for entry in answer[name]:
                entry["Key"] = percent(entry["Key"])
    for entry in answer["CommonPrefixes"]:
        entry["Prefix"] = percent(entry["Prefix"])
    return answer


_is_plain = re.compile(r"[A-Za-z0-9/_.~-]*\Z", re.ASCII).match


def percent(text: str) -> str:
    """'/' stays as it is, and a blank becomes %20, which every client decodes alike."""
    return text if _is_plain(text) else quote(text)
