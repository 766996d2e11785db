"""What travels with an object beside its bytes: content headers, user metadata, storage class, encryption, tags.

request --row_of--> the narrow part of a row --answer_of--> members of GetObject, HeadObject and the like
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from pilvi.core.errors import ServiceError
from pilvi.services.s3.classes import STORABLE
from pilvi.services.s3.condition import instant_of
from pilvi.services.s3.digest import COMPOSITE, FULL_OBJECT
from pilvi.services.s3.errors import invalid_argument, not_implemented
from pilvi.services.s3.lock_rules import asked_of

HEADERS = frozenset(
    {
        "CacheControl",
        "ContentDisposition",
        "ContentEncoding",
        "ContentLanguage",
        "ContentType",
        "Expires",
        "WebsiteRedirectLocation",
        "StorageClass",
    }
)
"""Members kept as they come and given back as they are."""

DEFAULT_TYPE = "binary/octet-stream"
DEFAULT_SSE = "AES256"

NOT_BUILT = {
    "ObjectLockEventHold": "x-amz-object-lock-event-hold",
    "WriteOffsetBytes": "x-amz-write-offset-bytes",
}
"""Members that ask for what is not there yet: refused, never ignored."""

ACL_MEMBERS = frozenset({"ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"})
"""Members that ask for an access control list (acl.py)."""

LOCK_MEMBERS = frozenset({"ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus"})
"""Members that ask for a lock (lock_rules.py)."""

METADATA_BYTES = 2048
KEY_BYTES = 1024


def check_key(key: str) -> None:
    """Errors: KeyTooLongError - beyond 1,024 bytes of UTF-8."""
    size = len(key) if key.isascii() else len(key.encode("utf-8", "surrogatepass"))
    if size > KEY_BYTES:
        raise ServiceError("KeyTooLongError", "Your key is too long", 400, Size=str(size), MaxSizeAllowed=str(KEY_BYTES))
    if "\0" in key:
        raise ServiceError("InvalidURI", "Couldn't parse the specified URI.", 400, URI=key)


def row_of(req: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a new object's row that the request decides, but for encryption (sealing.seal_row).

    Errors: NotImplemented; InvalidStorageClass; MetadataTooLarge; InvalidTag, BadRequest.
    """
    head: dict[str, Any] = {}
    asks_for_acl = asks_for_lock = False
    for name, value in req.items():
        if name in HEADERS:
            head[name] = value
        elif name in ACL_MEMBERS:
            asks_for_acl = True
        elif name in LOCK_MEMBERS:
            asks_for_lock = True
        elif name in NOT_BUILT:
            raise not_implemented(NOT_BUILT[name])
    row: dict[str, Any] = asked_of(req) if asks_for_lock else {}
    if asks_for_acl:
        row["acl"] = None  # until acl.mark_owner reads what is asked for
    if "ContentEncoding" in head:
        strip_chunked(head)
    if "StorageClass" in head:
        check_storage_class(head)
    if "WebsiteRedirectLocation" in head:
        check_redirect(head["WebsiteRedirectLocation"])
    if head:
        row["head"] = head
    if metadata := req.get("Metadata"):
        row["meta"] = checked_metadata(metadata)
    if tagging := req.get("Tagging"):
        row["tags"] = tags_of_header(tagging)
    return row


def check_redirect(location: str) -> None:
    """Where a website sends the browser instead. Source: S3 User Guide, "(Optional) Configuring a webpage redirect"."""
    if not location.startswith(("/", "http://", "https://")):
        raise ServiceError(
            "InvalidRedirectLocation",
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
            400,
        )
    if len(location) > METADATA_BYTES:
        raise ServiceError(
            "InvalidRedirectLocation", "The length of website redirect location cannot exceed 2,048 characters.", 400
        )


def strip_chunked(head: dict[str, Any]) -> None:
    """`aws-chunked` says how the bytes travelled, not what they are."""
    names = head["ContentEncoding"].split(",")
    kept = ",".join(name for name in names if name.strip() not in ("", "aws-chunked")).strip()
    if kept:
        head["ContentEncoding"] = kept
    else:
        del head["ContentEncoding"]


def check_storage_class(head: dict[str, Any]) -> None:
    chosen = head["StorageClass"]
    if chosen not in STORABLE:
        raise ServiceError("InvalidStorageClass", "The storage class you specified is not valid", 400, StorageClassRequested=chosen)
    if chosen == "STANDARD":
        del head["StorageClass"]


def checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    kept = {name.lower(): value for name, value in metadata.items()}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in kept.items())
    if size > METADATA_BYTES:
        raise ServiceError(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            400,
            Size=str(size),
            MaxSizeAllowed=str(METADATA_BYTES),
        )
    return kept


def tags_of_header(tagging: str) -> dict[str, str]:
    """`x-amz-tagging: a=1&b=2`, percent-encoded as a query string; a key alone has an empty value."""
    try:
        pairs = parse_qsl(tagging, keep_blank_values=True, errors="strict")
    except ValueError:
        raise invalid_argument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
            "x-amz-tagging",
            tagging,
        ) from None
    return checked_tags(pairs, 10, "Object tags cannot be greater than 10")


def checked_tags(pairs: list[tuple[str, str]], limit: int, too_many: str) -> dict[str, str]:
    """Source: S3 User Guide, "Categorizing your objects using tags"; key 128, value 256 characters, no aws: prefix."""
    if len(pairs) > limit:
        raise ServiceError("BadRequest", too_many, 400)
    tags: dict[str, str] = {}
    for key, value in pairs:
        if key in tags:
            raise invalid_tag("Cannot provide multiple Tags with the same key", key)
        if key.lower().startswith("aws:"):
            raise invalid_tag("System tags cannot be added/updated by requester", key)
        if not 0 < len(key) <= 128 or not is_tag_text(key):
            raise invalid_tag("The TagKey you have provided is invalid", key)
        if len(value) > 256 or not is_tag_text(value):
            raise invalid_tag("The TagValue you have provided is invalid", key, value)
        tags[key] = value
    return tags


def is_tag_text(text: str) -> bool:
    return all(character.isalnum() or character in " _.:/=+-@" for character in text)


def invalid_tag(message: str, key: str, value: str | None = None) -> ServiceError:
    fields = {"TagKey": key} if value is None else {"TagKey": key, "TagValue": value}
    return ServiceError("InvalidTag", message, 400, **fields)


def answer_of(value: Mapping[str, Any], is_versioned: bool) -> dict[str, Any]:
    """What a row says of its object, as GetObject and HeadObject answer it."""
    answer: dict[str, Any] = {
        "AcceptRanges": "bytes",
        "LastModified": instant_of(value["mtime"]),
        "ETag": f'"{value["etag"]}"',
        "ContentLength": value["size"],
        "ContentType": DEFAULT_TYPE,
        "ServerSideEncryption": DEFAULT_SSE,
    }
    if (head := value.get("head")) is not None:
        answer |= head
    if (meta := value.get("meta")) is not None:
        answer["Metadata"] = meta
    if (tags := value.get("tags")) is not None:
        answer["TagCount"] = len(tags)
    if is_versioned:
        answer["VersionId"] = value.get("ver", "null")
    return answer


def checksum_of(value: Mapping[str, Any]) -> dict[str, str]:
    """{ChecksumCRC32: ..., ChecksumType: ...}"""
    algorithm, sum_ = value["sum"]
    return {f"Checksum{algorithm}": sum_, "ChecksumType": COMPOSITE if "-" in sum_ else FULL_OBJECT}


def encryption_of(value: Mapping[str, Any], req: Mapping[str, Any]) -> dict[str, Any]:
    """What writes answer about encryption: the customer's own key is spoken of as the request spoke of it."""
    enc = value.get("enc")
    if enc is None:
        return {"ServerSideEncryption": DEFAULT_SSE}
    if "c" in enc:
        return customer_answer(req)
    head = value["head"]
    answer = {name: head[name] for name in ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled") if name in head}
    if "SSEKMSEncryptionContext" in req:
        answer["SSEKMSEncryptionContext"] = req["SSEKMSEncryptionContext"]
    return answer


def customer_answer(req: Mapping[str, Any]) -> dict[str, Any]:
    """What every answer about an SSE-C object says; the MD5 of its key is not kept."""
    return {name: req[name] for name in ("SSECustomerAlgorithm", "SSECustomerKeyMD5") if name in req}
