"""Requester pays: others than the owner pay for their requests, and must say that they know.

    request of another account --entry.py--> 403, or on  --perform--> answer --charge--> x-amz-request-charged and usage lines

The lines of one process, hour, payer and bucket are one row whose quantity grows; it is durable before the answer goes out.

Source: S3 User Guide, "Using Requester Pays buckets for storage transfers and usage".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pilvi.core.http import Response
from pilvi.core.service import Context, Operations
from pilvi.metering import Line, Meter, keeping
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, get_bucket
from pilvi.services.s3.errors import malformed_xml

ops = Operations()

REQUESTER = "Requester"
PAYERS = ("BucketOwner", REQUESTER)

NOT_CHARGED = frozenset({"DeleteObject", "DeleteObjects", "AbortMultipartUpload", "DeleteObjectTagging"})
"""What AWS asks nothing for. Source: S3 pricing, "Requests & data retrievals"."""
READS = frozenset({"GetObject", "HeadObject", "GetObjectAttributes", "GetObjectAcl", "GetObjectTagging", "SelectObjectContent"})
"""Tier 2; everything else (PUT, COPY, POST, LIST) is tier 1."""


@ops
def put_bucket_request_payment(ctx: Context, req: Mapping[str, Any]) -> None:
    """Say who pays for requests and downloads: BucketOwner or Requester.

    Errors: MalformedXML - another payer.
    Source: S3 API Reference, PutBucketRequestPayment.
    """
    payer = req["RequestPaymentConfiguration"].get("Payer")
    if payer not in PAYERS:
        raise malformed_xml()
    change_bucket(ctx, req["Bucket"], RequestPayment=payer if payer == REQUESTER else None)


@ops
def get_bucket_request_payment(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Who pays.

    Source: S3 API Reference, GetBucketRequestPayment.
    """
    return {"Payer": get_bucket(ctx, req["Bucket"]).value.get("RequestPayment", PAYERS[0])}


# -- charging ---------------------------------------------------------------------------------------------------------


async def charge(ctx: Context, bucket: Bucket, payer: str, response: Response) -> None:
    """Write down what the requester used, and say so in the answer."""
    response.headers.append(("x-amz-request-charged", "requester"))
    changes = keeping(lines_of(ctx, bucket, payer, size_of(response)))
    if changes:
        await ctx.store.commit(list(changes))


def size_of(response: Response) -> int:
    body = response.body
    return len(body) if isinstance(body, bytes) else body.length or 0


def lines_of(ctx: Context, bucket: Bucket, payer: str, size: int) -> Iterator[Line]:
    if ctx.operation in NOT_CHARGED:
        return
    yield counted(ctx, bucket, payer, "Requests-Tier2" if ctx.operation in READS else "Requests-Tier1", 1)
    if size:
        yield counted(ctx, bucket, payer, "DataTransfer-Out-Bytes", size)


def counted(ctx: Context, bucket: Bucket, payer: str, usage: str, quantity: int) -> Line:
    """This process's line of the hour, with this use added."""
    now = ctx.clock.now()
    memory: dict[str, Any] = ctx.cloud.memory.setdefault("s3:charged", {"run": ctx.ids.hex(16), "hour": "", "sums": {}})
    hour = f"{now:%Y-%m-%dT%H}"
    if memory["hour"] != hour:
        memory["hour"], memory["sums"] = hour, {}
    sums: dict[tuple[str, str, str], tuple[datetime, int]] = memory["sums"]
    key = (payer, bucket.name, usage)
    start, earlier = sums.get(key, (now, 0))
    sums[key] = (start, earlier + quantity)
    is_bytes = usage.endswith("Bytes")
    meter = Meter(
        id=f"{memory['run']}-{start:%M%S%f}/{bucket.name}",
        account=payer,
        region=bucket.region,
        product="AmazonS3",
        usage=usage,
        operation="ReadLocation" if is_bytes else ctx.operation,
        resource=bucket.arn,
        purchase="",
        unit="GB" if is_bytes else "Requests",
        per_unit=1 << 30 if is_bytes else 1,
    )
    return Line(meter, start, now, earlier + quantity)
