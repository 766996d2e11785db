"""Usage: every keyed request is checked against its plan and counted before it runs.

The count of a plan with a quota is on the disk before the request goes on, so that no restart gives requests away. Rates are kept in
memory: a bucket of `burstLimit` that refills at `rateLimit` a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.service import Context, Operations
from pilvi.services.apigateway.api_key import hash_of
from pilvi.services.apigateway.call import Call, Failure, forbidden
from pilvi.services.apigateway.usage_plan import find_plan, stages_of
from pilvi.storage.records import Rows

ops = Operations()

MOST_DAYS = 90
SERVICE = "apigateway-usage"
"""A room of its own in the store: counting must not make the site forget what it serves."""


@ops
def get_usage(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Requests of each key and day: [used on the day, left in the period by its end].

    req: usagePlanId, startDate and endDate (YYYY-MM-DD, at most 90 days), keyId.
    Errors: NotFoundException - no such plan. BadRequestException - dates.
    Differs: a plan without a quota counts nothing and shows nothing.
    """
    plan = find_plan(ctx, req)
    try:
        first, last = date.fromisoformat(req["startDate"]), date.fromisoformat(req["endDate"])
    except ValueError:
        raise Invalid("Usage dates must be given as YYYY-MM-DD") from None
    if not 0 <= (last - first).days < MOST_DAYS:
        raise Invalid(f"Usage can be asked for 1 to {MOST_DAYS} days")
    items = {}
    for row in counters(ctx).scan(prefix=f"{plan['id']}/{req.get('keyId') or ''}", limit=100_000):
        items[row.id.partition("/")[2]] = daily(plan, row.value["days"], first, last)
    return {"usagePlanId": plan["id"], "startDate": req["startDate"], "endDate": req["endDate"], "items": items}


# -- for the site -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Bucket:
    tokens: float
    at: float


class Refused(Failure):
    """429, with the words for the limit that was reached."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(429, kind, f'{{"message":"{message}"}}')


async def admit(ctx: Context, call: Call, plans: dict[tuple[str, str, str], tuple[str, Mapping[str, Any]]]) -> None:
    """Let a keyed request through, or refuse: 403 without a good key, 429 over a limit. `plans` remembers good keys by their hash."""
    value = call.header("x-api-key")
    if not value:
        raise forbidden()
    asked = (hash_of(value), call.api_id, call.stage)
    if asked not in plans:
        plans[asked] = plan_for(ctx, asked[0], call)
    key, plan = plans[asked]
    call.context["identity"] |= {"apiKey": value, "apiKeyId": key}
    memory: dict[str, Any] = ctx.cloud.memory.setdefault("apigateway-usage", {"buckets": {}, "counts": {}})
    throttle(ctx, memory["buckets"], plan, key)
    if "quota" in plan:
        await count(ctx, memory["counts"], plan, key)


def plan_for(ctx: Context, hashed: str, call: Call) -> tuple[str, Mapping[str, Any]]:
    """The key's id, and the plan that gives it this stage; Failure (403) when there is none."""
    key = ctx.records("ApiKeyValue").find(hashed)
    if key is None or not key["enabled"]:
        raise forbidden()
    held = ctx.records("UsagePlanKey")
    for plan in ctx.records("UsagePlan").all():
        if (call.api_id, call.stage) in stages_of(plan) and held.find(f"{plan['id']}/{key['id']}"):
            return key["id"], plan
    raise forbidden()


def throttle(ctx: Context, buckets: dict[str, Bucket], plan: Mapping[str, Any], key: str) -> None:
    limits = plan.get("throttle")
    if not limits:
        return
    rate, now = limits.get("rateLimit", 0.0), ctx.clock.time_s()
    most = max(limits.get("burstLimit", 0), 1 if rate else 0)
    bucket = buckets.setdefault(f"{plan['id']}/{key}", Bucket(most, now))
    bucket.tokens = min(most, bucket.tokens + max(now - bucket.at, 0) * rate)
    bucket.at = now
    if bucket.tokens < 1:
        raise Refused("Too Many Requests", "TooManyRequestsException")
    bucket.tokens -= 1


async def count(ctx: Context, counts: dict[str, dict[str, int]], plan: Mapping[str, Any], key: str) -> None:
    """One request more, durably, unless the quota is used up."""
    id, today = f"{plan['id']}/{key}", ctx.clock.now().date()
    days = counts.get(id)
    if days is None:
        row = counters(ctx).find(id)
        days = counts[id] = row["days"] if row else {}
    begins = period_start(plan["quota"], today)
    if sum(used for day, used in days.items() if day >= begins.isoformat()) >= allowed_in(plan, begins):
        raise Refused("Limit Exceeded", "LimitExceededException")
    days[today.isoformat()] = days.get(today.isoformat(), 0) + 1
    if len(days) > MOST_DAYS:
        del days[min(days)]
    await ctx.store.commit([counters(ctx).replacement(id, {"days": dict(days)})])


# -- details ------------------------------------------------------------------------------------------------------------


def counters(ctx: Context) -> Rows:
    return ctx.records("Count", service=SERVICE)


def period_start(quota: Mapping[str, Any], today: date) -> date:
    """When the running period began: the day, the week from its Sunday, the month."""
    if quota["period"] == "WEEK":
        return today - timedelta(days=today.isoweekday() % 7)
    return today.replace(day=1) if quota["period"] == "MONTH" else today


def allowed_in(plan: Mapping[str, Any], begins: date) -> int:
    """Requests of a period; the plan's offset counts as spent in its first one."""
    quota = plan["quota"]
    is_first = period_start(quota, date.fromisoformat(plan["_since"])) == begins
    return int(quota["limit"]) - (quota.get("offset", 0) if is_first else 0)


def daily(plan: Mapping[str, Any], days: Mapping[str, int], first: date, last: date) -> list[list[int]]:
    found = []
    for number in range((last - first).days + 1):
        day, left = first + timedelta(days=number), 0
        if "quota" in plan:
            begins = period_start(plan["quota"], day)
            spent = sum(used for each, used in days.items() if begins.isoformat() <= each <= day.isoformat())
            left = max(allowed_in(plan, begins) - spent, 0)
        found.append([days.get(day.isoformat(), 0), left])
    return found
