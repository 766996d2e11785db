"""A month's bill at one glance, with what runs right now: what `pilvi bill` prints. AWS has a console page for it, and no API.

GET /_aws/bill/<2026-11>      signed as a call of Cost Explorer's API; needs ce:GetCostAndUsage. Without a month: the running one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

from pilvi.core.errors import Invalid, PilviError
from pilvi.core.http import Request, Response
from pilvi.core.service import Access, Context
from pilvi.jobs.meter import on_instances
from pilvi.metering import Charge, Meter, Price, charges_between, price_of, usage_type
from pilvi.metering.rating import cents_of, decimal_of, units_of, usd_of
from pilvi.metering.running import running
from pilvi.services.ce.dimension import service_name
from pilvi.services.ce.period import month_of, next_month

PATH = "/_aws/bill/"


async def bill(ctx: Context, request: Request) -> Response:
    """One month of the caller's account."""
    if request.method != "GET":
        return _said(405, {"message": "Ask with GET."})
    if not ctx.principal.account:
        return _said(403, {"message": "The request is not signed."})
    try:
        ctx.authorize(Access("ce:GetCostAndUsage"))
        return _said(200, await asyncio.to_thread(bill_of, ctx, unquote(request.raw_path.removeprefix(PATH)).strip("/")))
    except PilviError as error:
        return _said(403 if getattr(error, "code", "") == "AccessDeniedException" else 400, {"message": error.message})


def bill_of(ctx: Context, month: str = "") -> dict[str, Any]:
    """Amounts in US dollars: `usd` in cents, `usd_exact` to ten decimals. The total is rounded once, from the exact one."""
    now = ctx.clock.now()
    start = _month(month) if month else month_of(now)
    if start > now:
        raise Invalid(f"{start:%Y-%m} lies ahead.")
    end = next_month(start)
    services: dict[str, dict[tuple[Any, ...], list[Charge]]] = {}
    for charge in charges_between(ctx.store, ctx.account, start, end):
        meter = charge.line.meter
        alike = (meter.region, charge.usage_type, meter.operation, meter.purchase, charge.price and charge.price.usd)
        services.setdefault(meter.product, {}).setdefault(alike, []).append(charge)
    parts = [
        {
            "service": service_name(product),
            **_usd(usd_of(charge for charges in groups.values() for charge in charges)),
            "usage": [_usage(charges) for _, charges in sorted(groups.items(), key=lambda group: group[0][:4])],
        }
        for product, groups in sorted(services.items())
    ]
    is_running_month = start <= now < end
    return {
        "account": ctx.account,
        "month": f"{start:%Y-%m}",
        "currency": "USD",
        "is_running_month": is_running_month,
        **_usd(usd_of(charge for groups in services.values() for charges in groups.values() for charge in charges)),
        "services": parts,
        "running": list(_running(ctx, now)) if is_running_month else [],
    }


def _usage(charges: list[Charge]) -> dict[str, Any]:
    """Charges that differ in nothing but time and resource."""
    first = charges[0]
    meter = first.line.meter
    return {
        "usage_type": first.usage_type,
        "region": meter.region,
        "operation": meter.operation,
        "purchase": meter.purchase,
        "quantity": decimal_of(units_of(charges)),
        "unit": meter.unit,
        **_priced(first.price),
        **_usd(usd_of(charges)),
    }


def _priced(price: Price | None) -> dict[str, Any]:
    """`price` is None where it is not known: nothing is asked then."""
    if price is None:
        return {"price": None, "price_source": "no price known: nothing is asked", "price_as_of": None, "is_estimated": False}
    return {
        "price": f"{price.usd.normalize():f}",
        "price_source": price.source,
        "price_as_of": price.as_of,
        "is_estimated": price.is_estimated,
    }


def _running(ctx: Context, now: datetime) -> Iterator[dict[str, Any]]:
    """What costs something right now. Notebooks and apps are on the bill so far, jobs from their end on."""
    for notebook in running(ctx.store, ctx.account):
        yield _shown(notebook.meter, 1, Fraction(1), notebook.since, notebook.seconds, is_on_bill=True)
    for job in on_instances(ctx.store, ctx.account, now):
        yield _shown(job.meter, job.instances, Fraction(str(job.share)), job.since, job.seconds, is_on_bill=False)


def _shown(meter: Meter, instances: int, share: Fraction, since: datetime, seconds: int, *, is_on_bill: bool) -> dict[str, Any]:
    price = price_of(meter.product, meter.usage, meter.region, since.date())
    hourly = Fraction(0) if price is None else Fraction(price.usd)
    return {
        "resource": meter.resource,
        "usage_type": usage_type(meter.product, meter.region, meter.usage),
        "region": meter.region,
        "instances": instances,
        "since": f"{since:%Y-%m-%dT%H:%M:%SZ}",
        "usd_per_hour": decimal_of(hourly * instances * share),
        "usd_so_far": decimal_of(hourly * seconds / meter.per_unit),
        "is_on_bill": is_on_bill,
        **_priced(price),
    }


def _usd(amount: Fraction) -> dict[str, str]:
    return {"usd": cents_of(amount), "usd_exact": decimal_of(amount)}


def _month(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise Invalid(f"{text} is no month: write it as 2026-11.") from None


def _said(status: int, content: dict[str, Any]) -> Response:
    return Response(status, [("Content-Type", "application/json")], json.dumps(content).encode())
