"""Notifications: which events of a bucket go to which topics, queues and functions. What happens with them: notify.py.

Source: S3 API Reference, PutBucketNotificationConfiguration; S3 User Guide, "Configuring event notifications using object key name
filtering". What EventBridge hears: bridge.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import PilviError
from pilvi.core.service import Context, Operations
from pilvi.events.targets import call_for
from pilvi.services.s3 import bridge
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, get_bucket
from pilvi.services.s3.errors import invalid_argument, malformed_xml
from pilvi.services.s3.notify import SETTING, SUBJECT, as_s3, covers, destination_of, filter_of

ops = Operations()

MOST: Final = 100
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "ObjectCreated": ("Put", "Post", "Copy", "CompleteMultipartUpload"),
    "ObjectRemoved": ("Delete", "DeleteMarkerCreated"),
    "ObjectRestore": ("Post", "Completed", "Delete"),
    "Replication": (
        "OperationFailedReplication",
        "OperationMissedThreshold",
        "OperationReplicatedAfterThreshold",
        "OperationNotTracked",
    ),
    "LifecycleExpiration": ("Delete", "DeleteMarkerCreated"),
    "ObjectTagging": ("Put", "Delete"),
    "ObjectAcl": ("Put",),
}
EVENTS: Final = frozenset(
    {f"s3:{kind}:{name}" for kind, names in _NAMES.items() for name in names}
    | {f"s3:{kind}:*" for kind in _NAMES if kind != "ObjectAcl"}
    | {"s3:LifecycleTransition", "s3:IntelligentTiering", "s3:ReducedRedundancyLostObject"}
)
"""Source: S3 User Guide, "Supported event types for SQS, SNS, and Lambda"."""


@ops
def put_bucket_notification_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Say where events go; an empty configuration ends it. Each topic and queue gets a test event, each function's permission
    is tried.

    Errors: InvalidArgument - no such event, filters that overlap, a destination that is not there, elsewhere, or does not let S3 in.
    MalformedXML.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    given = req[SETTING]
    found = {
        "TopicConfigurations": [checked(ctx, one, "TopicArn") for one in given.get("TopicConfigurations") or ()],
        "QueueConfigurations": [checked(ctx, one, "QueueArn") for one in given.get("QueueConfigurations") or ()],
        "LambdaFunctionConfigurations": [
            checked(ctx, one, "LambdaFunctionArn") for one in given.get("LambdaFunctionConfigurations") or ()
        ],
    }
    everything = [one for some in found.values() for one in some]
    check_together(everything)
    if not req.get("SkipDestinationValidation"):
        for one in everything:
            try_out(ctx, bucket, one)
    configuration = {name: some for name, some in found.items() if some} or None
    is_bridged = given.get("EventBridgeConfiguration") is not None
    change_bucket(ctx, req["Bucket"], **{SETTING: configuration, bridge.SETTING: {"IsOn": True} if is_bridged else None})


@ops
def get_bucket_notification_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where events go; nothing when nowhere."""
    value = get_bucket(ctx, req["Bucket"]).value
    found: dict[str, Any] = value.get(SETTING, {})
    return found | ({"EventBridgeConfiguration": {}} if bridge.SETTING in value else {})


# -- checking -----------------------------------------------------------------------------------------------------------------


def checked(ctx: Context, one: Mapping[str, Any], member: str) -> dict[str, Any]:
    """A configuration with its filter in one form and an id."""
    if not one.get("Events") or not one.get(member):
        raise malformed_xml()
    for event in one["Events"]:
        if event not in EVENTS:
            raise invalid_argument("The event is not supported for notifications", "Event", event)
    rules: list[dict[str, str]] = []
    for rule in ((one.get("Filter") or {}).get("Key") or {}).get("FilterRules") or ():
        name = (rule.get("Name") or "").lower()
        if name not in ("prefix", "suffix"):
            raise invalid_argument("filter rule name must be either prefix or suffix", "FilterRule.Name", name)
        if any(other["Name"] == name.capitalize() for other in rules):
            raise invalid_argument(f"Cannot specify more than one {name} rule in a filter.", "FilterRule.Name", name)
        if len((rule.get("Value") or "").encode()) > 1024:
            raise invalid_argument("Size of filter rule value cannot exceed 1024 bytes in UTF-8", "FilterRule.Value", "")
        rules.append({"Name": name.capitalize(), "Value": rule.get("Value") or ""})
    found: dict[str, Any] = {"Id": one.get("Id") or ctx.ids.uuid(), member: one[member], "Events": list(one["Events"])}
    return found | ({"Filter": {"Key": {"FilterRules": rules}}} if rules else {})


def check_together(everything: Sequence[Mapping[str, Any]]) -> None:
    """Ids stand once, and no event goes two ways."""
    if len(everything) > MOST:
        raise invalid_argument(f"The maximum number of configurations is {MOST}", SETTING, len(everything))
    if len({one["Id"] for one in everything}) < len(everything):
        raise invalid_argument("Same ID used for multiple configurations. IDs must be unique", "Id", "")
    for one, other in combinations(everything, 2):
        if _share_an_event(one, other) and _share_a_key(one, other):
            raise invalid_argument(
                "Configurations overlap. Configurations on the same bucket cannot share a common event type.", "Events", ""
            )


def _share_an_event(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(
        event == there or covers(event, there) or covers(there, event) for event in one["Events"] for there in other["Events"]
    )


def _share_a_key(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    (start, end), (start_too, end_too) = filter_of(one), filter_of(other)
    starts = start.startswith(start_too) or start_too.startswith(start)
    return starts and (end.endswith(end_too) or end_too.endswith(end))


def try_out(ctx: Context, bucket: Bucket, one: Mapping[str, Any]) -> None:
    """The destination is there, in the bucket's Region, and lets S3 in for this bucket."""
    arn = destination_of(one)
    wanted = "sns" if "TopicArn" in one else "sqs" if "QueueArn" in one else "lambda"
    parsed = Arn.parse(arn)
    if parsed is None or parsed.service != wanted or not parsed.account or not parsed.resource:
        raise invalid_argument("The ARN is not well formed", one["Id"], arn)
    problem = "Unable to validate the following destination configurations"
    if parsed.region != bucket.region or (wanted != "lambda" and arn.endswith(".fifo")):
        raise invalid_argument(problem, arn, "The destination is in another Region, or FIFO.")
    inside = as_s3(ctx.cloud, bucket)
    try:
        text = json.dumps(test_event(ctx, bucket))
        call = call_for(inside, arn, text, {"InvocationType": "DryRun", "Subject": SUBJECT})
        inside.call(call.service, call.operation, **call.params)
    except PilviError as error:
        raise invalid_argument(problem, arn, error.message) from error


def test_event(ctx: Context, bucket: Bucket) -> dict[str, Any]:
    now = ctx.clock.now()
    return {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z",
        "Bucket": bucket.name,
        "RequestId": ctx.request_id,
        "HostId": ctx.request_id,
    }
