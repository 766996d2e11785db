"""S3ReplicateObject: an existing version goes the way that new ones go, under the bucket's replication rules.

What S3's replication listens to is recorded once more for the version; the task ends with the first attempt.

Source: S3 User Guide, "Replicating existing objects with Batch Replication": the job's role needs s3:InitiateReplication.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Access, Context
from pilvi.services.s3control.errors import access_denied, invalid_request

CONSUMER = "s3/replication"
LOOK_S = 0.05
LOOKED_AT = 10_000


async def replicate(ctx: Context, bucket: str, key: str, version_id: str) -> None:
    """ctx: as the job's role. Errors: AccessDenied; those of looking at the object; InvalidRequest - no rule takes it, or it failed."""
    if not ctx.allows(Access("s3:InitiateReplication", f"arn:aws:s3:::{bucket}/{key}")):
        raise access_denied("The job's role may not do s3:InitiateReplication.")
    owner = owner_context(ctx)
    if not (await owner.acall("s3", "GetBucketReplication", Bucket=bucket)).get("ReplicationConfiguration"):
        raise invalid_request("The bucket has no replication rules.")
    place = {"Bucket": bucket, "Key": key, **({"VersionId": version_id} if version_id else {})}
    found = await owner.acall("s3", "HeadObject", **place)
    if "VersionId" not in found:
        raise invalid_request("Only versions of buckets with versioning are replicated.")
    version_id = found["VersionId"]
    turn = f"{key}\0{version_id}"
    events = ctx.cloud.events
    await ctx.store.commit([events.recording(CONSUMER, bucket, turn, fact_of(ctx, bucket, key, found))])
    events.wake(CONSUMER, bucket)
    while True:
        waiting = await asyncio.to_thread(events.waiting, CONSUMER, bucket, LOOKED_AT)
        mine = next((entry for entry in waiting if entry.key == turn), None)
        if mine is None:
            break
        if mine.tries:
            raise ServiceError("ReplicationFailed", mine.error or "The object could not be replicated.", 400)
        await asyncio.sleep(LOOK_S)
    if (await owner.acall("s3", "HeadObject", **{**place, "VersionId": version_id})).get("ReplicationStatus") != "COMPLETED":
        raise invalid_request("No replication rule takes the object.")


def owner_context(ctx: Context) -> Context:
    """S3 in the place of the job's account."""
    principal: Principal = ctx.cloud.identities.root(ctx.account)
    return Context(ctx.cloud, principal=principal, account=ctx.account, region=ctx.region, service="s3control")


def fact_of(ctx: Context, bucket: str, key: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What S3 itself would have told when the version was made."""
    return {
        "eventName": "ObjectCreated:Put",
        "eventTime": ctx.clock.time_s(),
        "requester": ctx.principal.name,
        "account": ctx.account,
        "sourceIPAddress": ctx.source_ip,
        "requestId": ctx.request_id,
        "bucket": bucket,
        "owner": ctx.account,
        "region": ctx.region,
        "key": key,
        "sequencer": "0",
        "size": found["ContentLength"],
        "eTag": str(found["ETag"]).strip('"'),
        "versionId": found["VersionId"],
    }
