"""Pushes to mobile endpoints: into the spool, as the platform would have got them.

Source: SNS developer guide, "Sending platform-specific payloads in messages to mobile devices".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context
from pilvi.events.outgoing import Answer
from pilvi.services.sns import spool, status_log
from pilvi.services.sns.drafts import Draft, message_of
from pilvi.services.sns.errors import invalid
from pilvi.services.sns.platform_application import attributes_of
from pilvi.services.sns.platform_endpoint import look_endpoint, parsed_endpoint
from pilvi.services.sns.topics import as_sns, topic_arn
from pilvi.services.sns.usage import count

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change, Row

_ALSO: Final = {"FCM": "GCM", "GCM": "FCM"}
"""Two names of one platform."""


def check_endpoint(cloud: Cloud, arn: str) -> Row:
    """The endpoint that a push goes to. InvalidParameter, EndpointDisabled, PlatformApplicationDisabled."""
    where = parsed_endpoint(arn)
    row = look_endpoint(cloud, arn)
    if row is None:
        raise invalid("TargetArn Reason: No endpoint found for the target arn specified")
    platform, name = where.resource.split("/")[1:3]
    if row.value["attributes"].get("Enabled") != "true":
        raise ServiceError("EndpointDisabledException", "Endpoint is disabled", 400)
    if attributes_of(cloud, where.account, where.region, f"{platform}/{name}")["Enabled"] != "true":
        raise ServiceError("PlatformApplicationDisabledException", "Platform application is disabled", 400)
    return row


async def publish_to_endpoint(ctx: Context, arn: str, draft: Draft) -> str:
    """A push to one phone. Gives its message id. NotFound, EndpointDisabled, PlatformApplicationDisabled."""
    message = message_of(ctx, ctx.clock.time_s(), draft)
    await ctx.store.commit([pushing(ctx.cloud, arn, draft.bodies, draft.body, draft.subject, arn)])
    where = parsed_endpoint(arn)
    platform, name = where.resource.split("/")[1:3]
    count(ctx.cloud, where.account, where.region, f"DeliveryAttempts-{platform}", "Notifications", 1)
    key = f"{platform}/{name}"
    app = topic_arn(where.account, where.region, f"app/{key}")
    attributes = attributes_of(ctx.cloud, where.account, where.region, key)
    feedback = status_log.of_application(where.account, where.region, key, app, attributes)
    await status_log.succeeded(as_sns(ctx.cloud, where.account, where.region, app), feedback, arn, message, Answer(200), 0.0)
    return message.id


def pushing(cloud: Cloud, arn: str, bodies: Mapping[str, str], body: str, subject: str, source: str) -> Change:
    """The letter of a push, where endpoint and app let it through."""
    where = parsed_endpoint(arn)
    row = check_endpoint(cloud, arn)
    platform = where.resource.split("/")[1]
    text = next((bodies[key] for key in (platform, _ALSO.get(platform, ""), "default") if key in bodies), body)
    token = row.value["attributes"]["Token"]
    return spool.posting(
        cloud, where.account, where.region, kind=spool.PUSH, to=f"{platform} {token}", text=text, source=source, subject=subject
    )
