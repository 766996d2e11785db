"""SNS: topics that tell everybody who subscribed, whoever is slow or down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.core.errors import Invalid, NotFound
from pilvi.core.service import Service
from pilvi.services.sns import (
    confirmation,
    permission,
    platform_application,
    platform_endpoint,
    publish,
    sms,
    subscription,
    tag,
    topic,
    usage,
)
from pilvi.services.sns.access import needed
from pilvi.services.sns.mail_site import mail
from pilvi.services.sns.signer import certificate

if TYPE_CHECKING:
    from pilvi.core.service import Cloud


def close(cloud: Cloud) -> None:
    """The server stops: what is written behind is written now."""
    usage.COUNTED.write_down(cloud)


service = Service(
    "sns",
    topic.ops,
    tag.ops,
    permission.ops,
    subscription.ops,
    confirmation.ops,
    publish.ops,
    platform_application.ops,
    platform_endpoint.ops,
    sms.ops,
    errors={NotFound: "NotFoundException", Invalid: "InvalidParameterException"},
    access=needed,
    sites={"certificate": certificate, "mail": mail},
    close=close,
)
