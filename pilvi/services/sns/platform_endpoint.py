"""Platform endpoints: one app on one phone. Publishing to one puts a push into the spool.

    Table(account, Region, "snsdata", "Endpoint")    platform "/" app "/" uid -> {attributes}

Source: SNS API reference, CreatePlatformEndpoint and SetEndpointAttributes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import Conflict, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.sns.errors import bad_arn, bad_attributes, invalid, no_endpoint
from pilvi.services.sns.platform_application import find_application
from pilvi.services.sns.topic import position, token_of
from pilvi.services.sns.topics import DATA, SERVICE, topic_arn
from pilvi.storage.records import Delete, Insert, Row, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

ops = Operations(on_loop=True)

PAGE: Final = 100
MOST_DATA: Final = 2048
_ATTRIBUTES: Final = frozenset({"Token", "Enabled", "CustomUserData"})
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}\Z")


@ops
async def create_platform_endpoint(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take a phone down by its token; the same again gives the same ARN.

    Errors: NotFound - the application. InvalidParameter - the token, or it is there with other attributes.
    """
    table, application = find_application(ctx, req["PlatformApplicationArn"])
    given = dict(req.get("Attributes") or {})
    if req.get("CustomUserData") is not None:
        given.setdefault("CustomUserData", req["CustomUserData"])
    wanted = {"Enabled": "true", **_checked({**given, "Token": req["Token"]})}
    where = _table(table.account, table.region)
    there = _by_token(ctx.cloud, where, application.id, req["Token"])
    if there is not None:
        if there.value["attributes"] != wanted:
            arn = _arn(table.account, table.region, there.id)
            raise invalid(f"Token Reason: Endpoint {arn} already exists with the same Token, but different attributes.")
        return {"EndpointArn": _arn(table.account, table.region, there.id)}
    key = f"{application.id}/{ctx.ids.uuid()}"
    await ctx.store.commit([Insert(where, key, {"attributes": wanted})])
    return {"EndpointArn": _arn(table.account, table.region, key)}


@ops
async def list_endpoints_by_platform_application(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The phones of an app, 100 at a time. Errors: NotFound, InvalidParameter."""
    table, application = find_application(ctx, req["PlatformApplicationArn"])
    after = position(req.get("NextToken"))
    rows = ctx.store.scan(_table(table.account, table.region), prefix=f"{application.id}/", after=after, limit=PAGE + 1)
    found = [
        {"EndpointArn": _arn(table.account, table.region, row.id), "Attributes": row.value["attributes"]} for row in rows[:PAGE]
    ]
    return {"Endpoints": found} | ({"NextToken": token_of(rows[PAGE - 1].id)} if len(rows) > PAGE else {})


@ops
async def get_endpoint_attributes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of a phone. Errors: NotFound, InvalidParameter."""
    return {"Attributes": _own(ctx, req["EndpointArn"])[1].value["attributes"]}


@ops
async def set_endpoint_attributes(ctx: Context, req: Mapping[str, Any]) -> None:
    """Change a phone's token, data, or whether it gets pushes. Errors: NotFound, InvalidParameter."""
    given = _checked(req["Attributes"])
    while True:
        table, row = _own(ctx, req["EndpointArn"])
        try:
            await ctx.store.commit([Update(table, row.id, {"attributes": {**row.value["attributes"], **given}}, row.version)])
        except Conflict:
            continue
        return


@ops
async def delete_endpoint(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a phone; one that is not there is no error. Errors: InvalidParameter."""
    where = parsed_endpoint(req["EndpointArn"])
    if where.account != ctx.principal.account:
        return
    try:
        await ctx.store.commit([Delete(_table(where.account, where.region), where.resource.removeprefix("endpoint/"))])
    except NotFound:
        return


# -- what others use --------------------------------------------------------------------------------------------------------


def parsed_endpoint(arn: str) -> Arn:
    found = Arn.parse(arn)
    if found is None or found.service != SERVICE or found.resource.count("/") != 3 or not found.resource.startswith("endpoint/"):
        raise bad_arn("EndpointArn", arn)
    return found


def look_endpoint(cloud: Cloud, arn: str) -> Row | None:
    where = parsed_endpoint(arn)
    return cloud.store.get(_table(where.account, where.region), where.resource.removeprefix("endpoint/"))


# -- inside -----------------------------------------------------------------------------------------------------------------


def _table(account: str, region: str) -> Table:
    return Table(account, region, DATA, "Endpoint")


def _arn(account: str, region: str, key: str) -> str:
    return topic_arn(account, region, f"endpoint/{key}")


def _own(ctx: Context, arn: str) -> tuple[Table, Row]:
    where = parsed_endpoint(arn)
    row = look_endpoint(ctx.cloud, arn)
    if row is None or where.account != ctx.principal.account:
        raise no_endpoint()
    return _table(where.account, where.region), row


def _by_token(cloud: Cloud, table: Table, application: str, token: str) -> Row | None:
    after = ""
    while rows := cloud.store.scan(table, prefix=f"{application}/", after=after):
        for row in rows:
            if row.value["attributes"]["Token"] == token:
                return row
        after = rows[-1].id
    return None


def _checked(given: Mapping[str, str]) -> dict[str, str]:
    for name, value in given.items():
        if name not in _ATTRIBUTES:
            raise bad_attributes(f"Invalid attribute name: {name}")
        if name == "Token" and not _TOKEN.match(value):
            raise invalid("Token")
        if name == "Enabled" and value.lower() not in ("true", "false"):
            raise bad_attributes("Invalid value for attribute: Enabled")
        if name == "CustomUserData" and len(value.encode()) > MOST_DATA:
            raise bad_attributes(
                f"Invalid value for attribute: CustomUserData: must be at most {MOST_DATA} bytes long in UTF-8 encoding"
            )
    return {name: value.lower() if name == "Enabled" else value for name, value in given.items()}
