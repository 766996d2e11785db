"""Default encryption of a bucket: how new objects are sealed when their request says nothing of it (sealing.py does it)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.errors import invalid_argument, malformed_xml
from pilvi.services.s3.sealing import DEFAULT, DSSE_KMS, SSE_KMS, SSE_S3

ops = Operations()


@ops
def put_bucket_encryption(ctx: Context, req: Mapping[str, Any]) -> None:
    """Change how new objects are sealed, or block SSE-C; objects that are there stay as they are.

    req: Bucket, ServerSideEncryptionConfiguration {Rules (exactly one) [{ApplyServerSideEncryptionByDefault {SSEAlgorithm (AES256,
    aws:kms, aws:kms:dsse), KMSMasterKeyID}, BucketKeyEnabled, BlockedEncryptionTypes {EncryptionType (NONE, SSE-C)}}]}.
    Errors: MalformedXML - not one rule, or an unknown method; InvalidArgument - a KMS key for AES256.
    Source: S3 API Reference, PutBucketEncryption; the key is not looked for, as S3 does not look for it either.
    Differs: new buckets do not block SSE-C.
    """
    rules = req["ServerSideEncryptionConfiguration"].get("Rules") or []
    if len(rules) != 1:
        raise malformed_xml()
    rule = rules[0]
    by_default = rule.get("ApplyServerSideEncryptionByDefault")
    blocked = (rule.get("BlockedEncryptionTypes") or {}).get("EncryptionType") or []
    if by_default is None and not blocked and "BucketKeyEnabled" not in rule:
        raise malformed_xml()
    if by_default is not None:
        check_default(by_default)
    if not set(blocked) <= {"NONE", "SSE-C"} or len(blocked) > 1:
        raise malformed_xml()
    change_bucket(ctx, req["Bucket"], **{DEFAULT: {"Rules": [stored_rule(rule)]}})


def check_default(by_default: Mapping[str, Any]) -> None:
    algorithm = by_default.get("SSEAlgorithm")
    if algorithm not in (SSE_S3, SSE_KMS, DSSE_KMS):
        raise malformed_xml()
    if by_default.get("KMSMasterKeyID") and algorithm == SSE_S3:
        raise invalid_argument(
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
            "ApplyServerSideEncryptionByDefault",
            algorithm,
        )


def stored_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Complete, as it is given back."""
    by_default = rule.get("ApplyServerSideEncryptionByDefault") or {"SSEAlgorithm": SSE_S3}
    kept: dict[str, Any] = {
        "ApplyServerSideEncryptionByDefault": dict(by_default),
        "BucketKeyEnabled": bool(rule.get("BucketKeyEnabled", False)),
    }
    if "BlockedEncryptionTypes" in rule:
        kept["BlockedEncryptionTypes"] = dict(rule["BlockedEncryptionTypes"])
    return kept


@ops
def get_bucket_encryption(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """How new objects are sealed.

    Source: S3 API Reference, GetBucketEncryption; SSE-S3 is the default of every bucket since January 2023.
    """
    configuration = get_bucket(ctx, req["Bucket"]).value.get(DEFAULT)
    return {DEFAULT: configuration or {"Rules": [stored_rule({})]}}


@ops
def delete_bucket_encryption(ctx: Context, req: Mapping[str, Any]) -> None:
    """Go back to SSE-S3.

    Source: S3 API Reference, DeleteBucketEncryption.
    """
    get_bucket(ctx, req["Bucket"])
    change_bucket(ctx, req["Bucket"], **{DEFAULT: None})
