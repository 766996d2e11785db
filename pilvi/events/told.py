"""What services tell: an event of AWS's own on the default bus of an account, written in the transaction that makes it true.

    ctx.write(*changes, told(ctx.cloud, account, region, "aws.sagemaker", "SageMaker Training Job State Change", [arn], description))
    wake(ctx.cloud, account, region)

Rules, archives and other buses take it from there (pilvi.services.events): nobody who tells waits for anybody who listens, and what
was told is delivered at least once, whatever happens to the server. Events of one resource keep their order on the bus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.service import Context

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change

CONSUMER: Final = "events/told"


def told(
    ctx: Context | Cloud,
    account: str,
    region: str,
    source: str,
    detail_type: str,
    resources: Sequence[str],
    detail: Mapping[str, Any],
    at: datetime | None = None,
    key: str = "",
) -> Change:
    """The change that tells it. at: when it happened, if not now. key: what keeps its order, else the first resource.

    Instants inside the detail become milliseconds since 1970."""
    cloud = ctx.cloud if isinstance(ctx, Context) else ctx
    event = event_of(cloud, account, region, source, detail_type, resources, detail, at)
    return cloud.events.recording(CONSUMER, lane_of(account, region), key or (resources[0] if resources else source), event)


def wake(ctx: Context | Cloud, account: str, region: str) -> None:
    """The transaction is committed: the bus need not wait for a look round. From any thread."""
    cloud = ctx.cloud if isinstance(ctx, Context) else ctx
    cloud.events.wake(CONSUMER, lane_of(account, region))


def lane_of(account: str, region: str) -> str:
    """Each default bus by itself."""
    return f"{account}:{region}"


def event_of(
    cloud: Cloud,
    account: str,
    region: str,
    source: str,
    detail_type: str,
    resources: Sequence[str],
    detail: Mapping[str, Any],
    at: datetime | None = None,
) -> dict[str, Any]:
    """The envelope. Source: EventBridge User Guide, "AWS service event metadata"."""
    return {
        "version": "0",
        "id": cloud.ids.uuid(),
        "detail-type": detail_type,
        "source": source,
        "account": account,
        "time": instant(at or cloud.clock.now()),
        "region": region,
        "resources": list(resources),
        "detail": plain(detail),
    }


def instant(at: datetime) -> str:
    """As events carry it: whole seconds."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def plain(value: Any) -> Any:
    """What an API describes, as JSON; private keys of records stay behind."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items() if not str(name).startswith("_")}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
