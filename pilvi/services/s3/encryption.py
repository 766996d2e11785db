"""Default encryption of a bucket: SSE-S3 for everything, always on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.s3.catalog import get_bucket

ops = Operations()


@ops
def get_bucket_encryption(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """How new objects are encrypted.

    Source: S3 API Reference, GetBucketEncryption; SSE-S3 is the default of every bucket since January 2023.
    Differs: the default cannot be changed to a KMS key yet.
    """
    get_bucket(ctx, req["Bucket"])
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    return {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}
