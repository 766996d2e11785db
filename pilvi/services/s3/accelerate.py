"""Transfer acceleration: a flag of the bucket, and the host that is there for buckets that have it.

There is no edge network here: the accelerated host leads to the same server, and only to buckets for which it is enabled.

Source: S3 User Guide, "Configuring fast, secure file transfers using Amazon S3 Transfer Acceleration".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.errors import invalid_request, malformed_xml

ops = Operations()


@ops
def put_bucket_accelerate_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Enable or suspend acceleration. Once set it can only be suspended.

    Errors: InvalidRequest - a name with dots; MalformedXML - another status or none.
    Source: S3 API Reference, PutBucketAccelerateConfiguration.
    """
    name = req["Bucket"]
    if "." in name:
        raise invalid_request("S3 Transfer Acceleration is not supported for buckets with periods (.) in their names")
    status = req["AccelerateConfiguration"].get("Status")
    if status not in ("Enabled", "Suspended"):
        raise malformed_xml()
    change_bucket(ctx, name, Accelerate=status)


@ops
def get_bucket_accelerate_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Enabled or Suspended; nothing while it was never set.

    Source: S3 API Reference, GetBucketAccelerateConfiguration.
    """
    return {"Status": get_bucket(ctx, req["Bucket"]).value.get("Accelerate")}
