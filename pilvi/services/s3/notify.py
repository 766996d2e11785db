"""Notifications at work: a fact becomes AWS's event record, and goes where the bucket's configuration says.

Delivered at least once, in the order of each key. A destination that is gone, or no longer lets S3 in, misses the event, as on AWS; what
fails for other reasons is tried again (pilvi.events).

Source: S3 User Guide, "Event message structure".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

from pilvi.core.errors import PilviError
from pilvi.core.principal import Principal
from pilvi.core.service import Cloud, Context
from pilvi.events.targets import is_lasting, send
from pilvi.services.s3.catalog import Bucket, find_bucket

if TYPE_CHECKING:
    from pilvi.events import Fact

log = logging.getLogger("pilvi.s3")

SERVICE: Final = "s3.amazonaws.com"
SETTING: Final = "NotificationConfiguration"
SUBJECT: Final = "Amazon S3 Notification"
"""Of what topics are told."""


async def notify(cloud: Cloud, fact: Fact) -> None:
    """Tell everybody whom the bucket's configuration, as it is now, names for this event."""
    principal = Principal("service", fact["owner"], "", SERVICE, SERVICE)
    ctx = Context(cloud, principal=principal, account=fact["owner"], region=fact["region"], service="s3")
    bucket = find_bucket(ctx, fact["bucket"])
    if bucket is None or SETTING not in bucket.value:
        return
    inside = as_s3(cloud, bucket).traced(fact.get("trace", ""))
    for one in wanting(bucket.value[SETTING], f"s3:{fact['eventName']}", fact["key"]):
        text = json.dumps({"Records": [record_of(bucket, fact, one["Id"])]}, separators=(",", ":"))
        arn = destination_of(one)
        try:
            await send(inside, arn, text, options={"Subject": SUBJECT})
        except PilviError as error:
            if not is_lasting(error):
                raise
            log.warning("bucket %s: %s misses an event: %s", bucket.name, arn, error)


def as_s3(cloud: Cloud, bucket: Bucket) -> Context:
    """S3 itself, on behalf of a bucket."""
    principal = Principal("service", bucket.account, "", SERVICE, SERVICE, source_arn=bucket.arn)
    return Context(cloud, principal=principal, account=bucket.account, region=bucket.region, service="s3")


def destination_of(one: Mapping[str, Any]) -> str:
    """The ARN that a configuration sends to."""
    return str(one.get("TopicArn") or one.get("QueueArn") or one["LambdaFunctionArn"])


def wanting(configuration: Mapping[str, Any], event: str, key: str) -> Iterator[Mapping[str, Any]]:
    """The configurations that an event of a key goes to. event: with `s3:`."""
    for some in configuration.values():
        for one in some:
            prefix, suffix = filter_of(one)
            if (
                key.startswith(prefix)
                and key.endswith(suffix)
                and any(name == event or covers(name, event) for name in one["Events"])
            ):
                yield one


def filter_of(one: Mapping[str, Any]) -> tuple[str, str]:
    """Prefix and suffix."""
    rules = {rule["Name"]: rule["Value"] for rule in ((one.get("Filter") or {}).get("Key") or {}).get("FilterRules") or ()}
    return rules.get("Prefix", ""), rules.get("Suffix", "")


def covers(event: str, other: str) -> bool:
    """Whether `s3:ObjectCreated:*` means another one."""
    return event.endswith(":*") and other.startswith(event[:-1])


def record_of(bucket: Bucket, fact: Fact, configuration_id: str) -> dict[str, Any]:
    """One event as AWS tells it."""
    at = datetime.fromtimestamp(fact["eventTime"], UTC)
    members: Mapping[str, str] = {"size": "size", "eTag": "eTag", "versionId": "versionId", "sequencer": "sequencer"}
    thing: dict[str, Any] = {"key": quote_plus(fact["key"], safe="/")}
    thing |= {name: fact[member] for name, member in members.items() if member in fact}
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": fact["region"],
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        "eventName": fact["eventName"],
        "userIdentity": {"principalId": fact["requester"]},
        "requestParameters": {"sourceIPAddress": fact["sourceIPAddress"]},
        "responseElements": {"x-amz-request-id": fact["requestId"], "x-amz-id-2": fact["requestId"]},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {"name": bucket.name, "ownerIdentity": {"principalId": bucket.account}, "arn": bucket.arn},
            "object": thing,
        },
        **{name: fact[name] for name in ("glacierEventData", "lifecycleEventData", "intelligentTieringEventData") if name in fact},
    }
