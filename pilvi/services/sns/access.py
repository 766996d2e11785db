"""Which permission each operation needs: on which topic, with that topic's policy.

What a subscription's owner may do with it is seen to by its operations; links of confirmation and unsubscription are their own proof.
Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon SNS".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.service import Access, Context
from pilvi.services.sns.topics import SERVICE, look, topic_arn

_ACTIONS: Final = {"PublishBatch": "Publish"}
_OF_LINKS: Final = frozenset({"ConfirmSubscription", "Unsubscribe"})
_ON_TOPICS: Final = frozenset(
    {
        "AddPermission",
        "ConfirmSubscription",
        "CreateTopic",
        "DeleteTopic",
        "GetDataProtectionPolicy",
        "GetTopicAttributes",
        "ListSubscriptionsByTopic",
        "ListTagsForResource",
        "Publish",
        "PublishBatch",
        "PutDataProtectionPolicy",
        "RemovePermission",
        "SetTopicAttributes",
        "Subscribe",
        "TagResource",
        "UntagResource",
    }
)
_OWNERS: Final = frozenset({"CreateTopic", "ListTagsForResource", "TagResource", "UntagResource"})
"""No topic policy lets another account do these."""
_SPEAKING_FOR_OWNERS: Final = frozenset({"cloudwatch.amazonaws.com"})
"""Services that say whom they speak for (aws:SourceOwner), so that a topic's default policy lets them in. Source: CloudWatch User Guide, "Notifying
users on alarm changes"."""


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call."""
    if operation in _OF_LINKS and ctx.principal.kind == "anonymous":
        return ()
    action = f"SNS:{_ACTIONS.get(operation, operation)}"
    if operation not in _ON_TOPICS:
        return (Access(action, _application(req)),)
    arn = req.get("TopicArn") or req.get("TargetArn") or req.get("ResourceArn") or ""
    if operation == "CreateTopic":
        arn = topic_arn(ctx.account, ctx.region, req["Name"])
    if operation == "ConfirmSubscription":  # the token says the rest
        return (Access(action, arn),)
    found = [on_topic(ctx, action, arn, _context(operation, req), is_owners=operation in _OWNERS)]
    if operation == "CreateTopic" and req.get("Tags"):
        found.append(on_topic(ctx, "SNS:TagResource", arn, _context(operation, req), is_owners=True))
    return found


def on_topic(ctx: Context, action: str, arn: str, context: Mapping[str, Any] | None = None, *, is_owners: bool = False) -> Access:
    """One action on a topic, whether it is there or not; on a mobile endpoint or a phone, on what that is."""
    where = Arn.parse(arn)
    if where is None or where.service != SERVICE or not where.account:
        return Access(action, "*", context=context or {})
    topic = look(ctx.cloud, where.account, where.region, where.resource)
    if topic is None:
        return Access(action, arn, None, where.account, context or {})
    facts = {f"aws:ResourceTag/{name}": value for name, value in topic.row["tags"].items()}
    if ctx.principal.kind == "service" and ctx.principal.name in _SPEAKING_FOR_OWNERS:
        facts["aws:SourceOwner"] = ctx.principal.account
    is_stranger = is_owners and ctx.principal.account != topic.account
    return Access(action, topic.arn, None if is_stranger else topic.policy, topic.account, {**facts, **(context or {})})


def _context(operation: str, req: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if operation == "Subscribe":
        found = {"sns:Protocol": req["Protocol"], "sns:Endpoint": req.get("Endpoint") or ""}
    if tags := req.get("Tags"):
        found |= {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}
        found["aws:TagKeys"] = [tag["Key"] for tag in tags]
    elif keys := req.get("TagKeys"):
        found["aws:TagKeys"] = list(keys)
    return found


def _application(req: Mapping[str, Any]) -> str:
    """The platform application or endpoint that a call is about; '*' for others."""
    arn = req.get("PlatformApplicationArn") or req.get("EndpointArn") or ""
    return arn if arn.startswith("arn:") else "*"
