"""An object's own keys: SSE-KMS, DSSE-KMS and SSE-C. What the server keeps is enough to get them again, never the keys.

    request, bucket's default --seal_row--> the row's `head` and `enc`, and the keys to seal the bytes with
    the row's `enc`, request  --open_row--> the keys to open them with

    enc = {"k": [wrapped, ...]}                  SSE-KMS, and with two of them DSSE-KMS: data keys as KMS wrapped them
    enc = {"b": wrapped, "k": [wrapped]}         with a bucket key: KMS wrapped that, and it wraps the object's data key
    enc = {"c": verifier, "salt": ...}           SSE-C: an HMAC that tells whether a key is the one; nothing of the key itself

KMS is asked as the caller, so key policies, grants and IAM policies decide. An object without `enc` is SSE-S3: the server's keyring
seals it (storage.sealed), and none of this runs.

Source: S3 User Guide, "Protecting data with encryption"; S3 API Reference, PutObject, GetObject, CreateMultipartUpload.
Differs: both layers of DSSE-KMS have data keys of KMS; a bucket key lasts five minutes; SSE-C from this machine may come over HTTP.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.errors import access_denied, invalid_argument, invalid_request
from pilvi.storage.layers import KEY_BYTES, Keys

Value = dict[str, Any]

DEFAULT = "ServerSideEncryptionConfiguration"
"""The bucket's setting."""

ASKING = frozenset(
    {
        "ServerSideEncryption",
        "SSEKMSKeyId",
        "SSEKMSEncryptionContext",
        "BucketKeyEnabled",
        "SSECustomerAlgorithm",
        "SSECustomerKey",
        "SSECustomerKeyMD5",
    }
)
"""Members of a write that speak of encryption."""

CONDITIONS = {
    "ServerSideEncryption": "s3:x-amz-server-side-encryption",
    "SSEKMSKeyId": "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "SSECustomerAlgorithm": "s3:x-amz-server-side-encryption-customer-algorithm",
}
"""The ones that policies may set conditions on."""

SSE_S3, SSE_KMS, DSSE_KMS = "AES256", "aws:kms", "aws:kms:dsse"
LAYERS = {SSE_KMS: 1, DSSE_KMS: 2}
MANAGED_KEY = "alias/aws/s3"

BUCKET_KEY_S = 300.0
"""How long a bucket key serves one caller before KMS is asked again."""
BUCKET_KEYS = 1024

LOOPBACK = ("127.0.0.1", "::1", "")


class Wish(NamedTuple):
    """How an object is to be sealed under a KMS key."""

    algorithm: str
    key_id: str
    has_bucket_key: bool
    context: dict[str, str]
    """What the caller adds to the encryption context."""


class BucketKey(NamedTuple):
    plain: bytes
    wrapped: bytes
    arn: str
    """Of the KMS key."""
    until: float


# -- writing --------------------------------------------------------------------------------------------------------------


def is_asked(bucket: Bucket, req: Mapping[str, Any]) -> bool:
    """Whether a write has to do with anything but SSE-S3."""
    return DEFAULT in bucket.value or not ASKING.isdisjoint(req)


async def seal_row(ctx: Context, bucket: Bucket, key: str, req: Mapping[str, Any], row: Value) -> Keys | None:
    """The keys to seal a new object with, None for the server's own; its row learns how to get them again.

    Errors: InvalidArgument - an unknown method, or methods that exclude each other; AccessDenied - KMS refuses, or the bucket blocks
    SSE-C; KMS.NotFoundException, KMS.DisabledException, KMS.KMSInvalidStateException - what KMS says of the key.
    """
    if (customer := customer_key(ctx, req)) is not None:
        if "ServerSideEncryption" in req:
            raise invalid_argument(
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
                "x-amz-server-side-encryption",
                req["ServerSideEncryption"],
            )
        if blocks_customer_keys(bucket):
            raise access_denied()
        salt = os.urandom(16)
        row["enc"] = {"c": verifier_of(customer, salt), "salt": salt}
        return (data_key_of(customer, salt),)
    wish = wish_of(bucket, req)
    if wish is None:
        return None
    check_caller(ctx)
    head = row.setdefault("head", {})
    head["ServerSideEncryption"] = wish.algorithm
    pairs = {"x": wish.context} if wish.context else {}
    if wish.has_bucket_key:
        head["BucketKeyEnabled"] = True
        bucket_key = await bucket_key_for(ctx, bucket, wish)
        head["SSEKMSKeyId"] = bucket_key.arn
        data_key, nonce = os.urandom(KEY_BYTES), os.urandom(12)
        wrapped = nonce + AESGCM(bucket_key.plain).encrypt(nonce, data_key, bucket.object_arn(key).encode())
        row["enc"] = {"b": bucket_key.wrapped, "k": [wrapped], **pairs}
        return (data_key,)
    context = {**wish.context, "aws:s3:arn": bucket.object_arn(key)}
    made = [await generate(ctx, bucket, wish.key_id, context) for _ in range(LAYERS[wish.algorithm])]
    head["SSEKMSKeyId"] = made[0]["KeyId"]
    row["enc"] = {"k": [one["CiphertextBlob"] for one in made], **pairs}
    return tuple(one["Plaintext"] for one in made)


def wish_of(bucket: Bucket, req: Mapping[str, Any]) -> Wish | None:
    """What the request says, else what the bucket's default says; None is SSE-S3."""
    asked = req.get("ServerSideEncryption")
    key_id = req.get("SSEKMSKeyId")
    if asked not in (None, "", SSE_S3, SSE_KMS, DSSE_KMS):
        raise invalid_argument("The encryption method specified is not supported", "x-amz-server-side-encryption", asked)
    default = default_of(bucket)
    by_default = default.get("ApplyServerSideEncryptionByDefault") or {}
    if not asked:
        if key_id is not None:
            raise invalid_argument(
                "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
                "x-amz-server-side-encryption",
                "null",
            )
        asked, key_id = by_default.get("SSEAlgorithm", SSE_S3), by_default.get("KMSMasterKeyID")
    if asked == SSE_S3:
        for member, header in KMS_ONLY.items():
            if member in req:
                raise invalid_argument(
                    "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
                    "x-amz-server-side-encryption",
                    req.get("ServerSideEncryption") or header,
                )
        return None
    has_bucket_key = asked == SSE_KMS and bool(req.get("BucketKeyEnabled", default.get("BucketKeyEnabled", False)))
    return Wish(asked, key_id or MANAGED_KEY, has_bucket_key, context_of(req))


KMS_ONLY = {
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
}


def default_of(bucket: Bucket) -> Mapping[str, Any]:
    """The rule of the bucket's default encryption; nothing when it was never changed."""
    configuration = bucket.value.get(DEFAULT)
    return configuration["Rules"][0] if configuration else {}


def blocks_customer_keys(bucket: Bucket) -> bool:
    return "SSE-C" in ((default_of(bucket).get("BlockedEncryptionTypes") or {}).get("EncryptionType") or ())


def context_of(req: Mapping[str, Any]) -> dict[str, str]:
    """The header holds a JSON object of texts in base 64."""
    given = req.get("SSEKMSEncryptionContext")
    if given is None:
        return {}
    try:
        pairs = json.loads(b64decode(given, validate=True))
    except (binascii.Error, ValueError):
        pairs = None
    if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
        raise invalid_argument(
            "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON which represents "
            "a string-string map",
            "x-amz-server-side-encryption-context",
            given,
        )
    return pairs


# -- reading --------------------------------------------------------------------------------------------------------------


async def open_row(ctx: Context, bucket: Bucket, key: str, req: Mapping[str, Any], value: Value, prefix: str = "") -> Keys | None:
    """The keys an object's bytes open with; None when the server's own do.

    prefix: "CopySource" where the members of the request speak of a copy's source.
    Errors: InvalidRequest - SSE-C headers are missing or out of place; AccessDenied - another key, or KMS refuses; KMS.*.
    """
    enc = value.get("enc")
    customer = check_customer_key(ctx, req, enc, prefix)
    if enc is None:
        return None
    if customer is not None:
        return (data_key_of(customer, enc["salt"]),)
    check_caller(ctx)
    arn = value["head"]["SSEKMSKeyId"]
    pairs = enc.get("x") or {}
    if "b" in enc:
        bucket_key = await opened_bucket_key(ctx, bucket, arn, enc["b"], pairs)
        return tuple(unwrapped(bucket_key, wrapped, bucket.object_arn(key)) for wrapped in enc["k"])
    context = {**pairs, "aws:s3:arn": bucket.object_arn(key)}
    return tuple([await decrypt(ctx, arn, wrapped, context) for wrapped in enc["k"]])


def check_customer_key(ctx: Context, req: Mapping[str, Any], enc: Value | None, prefix: str = "") -> bytes | None:
    """The customer's key, where the object has one and it is this one."""
    customer = customer_key(ctx, req, prefix)
    if enc is None or "c" not in enc:
        if customer is not None:
            raise invalid_request("The encryption parameters are not applicable to this object.")
        return None
    if customer is None:
        raise invalid_request(
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the "
            "object."
        )
    if not is_key(customer, enc):
        raise access_denied()
    return customer


async def open_part(ctx: Context, bucket: Bucket, key: str, req: Mapping[str, Any], upload: Value) -> Keys | None:
    """The keys of an upload, for one of its parts; all parts of an object are sealed under the same.

    Errors: InvalidRequest - the part's SSE-C headers are not those the upload began with.
    """
    enc = upload.get("enc")
    customer = customer_key(ctx, req)
    if enc is None or "c" not in enc:
        if customer is not None:
            raise invalid_request("The encryption parameters are not applicable to this object.")
        return None if enc is None else await open_row(ctx, bucket, key, {}, upload)
    if customer is None:
        raise invalid_request(
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption "
            "parameters."
        )
    if not is_key(customer, enc):
        raise invalid_request("The provided encryption parameters did not match the ones used originally.")
    return (data_key_of(customer, enc["salt"]),)


# -- keys that customers bring --------------------------------------------------------------------------------------------


def customer_key(ctx: Context, req: Mapping[str, Any], prefix: str = "") -> bytes | None:
    """The key of an SSE-C request; None when it is none.

    Errors: InvalidArgument - the three headers are not complete, or do not fit each other; InvalidRequest - over plain HTTP.
    Differs: from this machine itself SSE-C is taken over plain HTTP too.
    """
    algorithm, given = req.get(f"{prefix}SSECustomerAlgorithm"), req.get(f"{prefix}SSECustomerKey")
    if algorithm is None and given is None:
        return None
    if algorithm != SSE_S3:
        raise unfit_key("must provide a valid encryption algorithm.")
    if given is None:
        raise unfit_key("must provide an appropriate secret key.")
    if not ctx.secure and ctx.source_ip not in LOOPBACK:
        raise invalid_request(
            "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection."
        )
    try:
        key = b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise invalid_argument("The secret key was invalid for the specified algorithm.", SSE_HEADER, "null")
    md5 = req.get(f"{prefix}SSECustomerKeyMD5")
    if md5 is None:
        raise unfit_key("must provide the client calculated MD5 of the secret key.")
    if md5 != md5_of(key):
        raise invalid_argument("The calculated MD5 hash of the key did not match the hash that was provided.", SSE_HEADER, "null")
    return key


SSE_HEADER = "x-amz-server-side-encryption"


def unfit_key(what: str) -> ServiceError:
    return invalid_argument(f"Requests specifying Server Side Encryption with Customer provided keys {what}", SSE_HEADER, "null")


def md5_of(key: bytes) -> str:
    return b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()


def verifier_of(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, b"verifier:" + salt, hashlib.sha256)


def is_key(key: bytes, enc: Value) -> bool:
    return hmac.compare_digest(verifier_of(key, enc["salt"]), enc["c"])


def data_key_of(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, b"data key:" + salt, hashlib.sha256)


# -- keys that KMS keeps --------------------------------------------------------------------------------------------------


def check_caller(ctx: Context) -> None:
    """KMS knows nobody who did not sign, or signed as in the first days."""
    if ctx.principal.kind == "anonymous" or (ctx.claim is not None and ctx.claim.kind.startswith("v2")):
        raise invalid_argument(
            "Requests specifying Server Side Encryption with AWS KMS managed keys require AWS Signature Version 4.",
            "Authorization",
            "null",
        )


async def generate(ctx: Context, bucket: Bucket, key_id: str, context: Mapping[str, str]) -> dict[str, Any]:
    """A new data key: Plaintext, CiphertextBlob, KeyId (the key's ARN)."""
    where = at_key(ctx, key_id, bucket.region)
    try:
        return await where.acall("kms", "GenerateDataKey", KeyId=key_id, KeySpec="AES_256", EncryptionContext=context)
    except ServiceError as error:
        raise worded(error) from error


async def decrypt(ctx: Context, arn: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
    where = at_key(ctx, arn, "")
    try:
        opened = await where.acall("kms", "Decrypt", CiphertextBlob=wrapped, KeyId=arn, EncryptionContext=context)
    except ServiceError as error:
        raise worded(error) from error
    plain: bytes = opened["Plaintext"]
    return plain


def at_key(ctx: Context, key_id: str, region: str) -> Context:
    """The caller where a key lies: an ARN says it, all else is in the caller's own account and the bucket's Region.

    Errors: KMS.NotFoundException - the ARN names another Region than the bucket's.
    """
    if not key_id.startswith("arn:"):
        return ctx.at(ctx.principal.account, region)
    parts = key_id.split(":")
    if len(parts) < 6 or (region and parts[3] != region):
        raise ServiceError("KMS.NotFoundException", f"Invalid arn {parts[3] if len(parts) > 3 else key_id}", 400)
    return ctx.at(parts[4], parts[3])


def worded(error: ServiceError) -> ServiceError:
    """What KMS said, as S3 passes it on."""
    if error.code in ("AccessDeniedException", "AccessDenied"):
        return access_denied(error.message)
    if error.code == "NotImplemented":
        return error
    return ServiceError(f"KMS.{error.code}", error.message, 400)


# -- bucket keys ----------------------------------------------------------------------------------------------------------


async def bucket_key_for(ctx: Context, bucket: Bucket, wish: Wish) -> BucketKey:
    """The key that wraps the data keys of what one caller puts into a bucket, for some minutes."""
    place = ("seal", *whose(ctx), bucket.name, wish.key_id, *sorted(wish.context.items()))
    kept = kept_key(ctx, place)
    if kept is None:
        made = await generate(ctx, bucket, wish.key_id, {**wish.context, "aws:s3:arn": bucket.arn})
        kept = keep_key(ctx, place, made["Plaintext"], made["CiphertextBlob"], made["KeyId"])
    return kept


async def opened_bucket_key(ctx: Context, bucket: Bucket, arn: str, wrapped: bytes, pairs: Mapping[str, str]) -> BucketKey:
    place = ("open", *whose(ctx), wrapped)
    kept = kept_key(ctx, place)
    if kept is None:
        plain = await decrypt(ctx, arn, wrapped, {**pairs, "aws:s3:arn": bucket.arn})
        kept = keep_key(ctx, place, plain, wrapped, arn)
    return kept


def whose(ctx: Context) -> tuple[str, ...]:
    """A bucket key serves whoever KMS gave it to, under the very credentials it was given to."""
    principal = ctx.principal
    return (principal.account, principal.arn, principal.name, principal.source_arn, principal.access_key_id)


def kept_key(ctx: Context, place: tuple[Any, ...]) -> BucketKey | None:
    kept: BucketKey | None = (ctx.cloud.memory.get("s3:bucket keys") or {}).get(place)
    return kept if kept is not None and ctx.clock.time_s() < kept.until else None


def keep_key(ctx: Context, place: tuple[Any, ...], plain: bytes, wrapped: bytes, arn: str) -> BucketKey:
    kept: dict[tuple[Any, ...], BucketKey] = ctx.cloud.memory.setdefault("s3:bucket keys", {})
    kept.pop(place, None)
    while len(kept) >= BUCKET_KEYS:
        del kept[next(iter(kept))]
    key = kept[place] = BucketKey(plain, wrapped, arn, ctx.clock.time_s() + BUCKET_KEY_S)
    return key


def unwrapped(bucket_key: BucketKey, wrapped: bytes, object_arn: str) -> bytes:
    try:
        return AESGCM(bucket_key.plain).decrypt(wrapped[:12], wrapped[12:], object_arn.encode())
    except InvalidTag:
        raise ServiceError("InternalError", "We encountered an internal error. Please try again.", 500) from None
