"""Platform applications: the mobile apps that pushes go to, with the credentials for their platform, sealed.

    Table(account, Region, "sns", "PlatformApplication")    platform "/" name -> {attributes, secrets: sealed, created}

Source: SNS API reference, CreatePlatformApplication and SetPlatformApplicationAttributes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, Conflict
from pilvi.core.service import Context, Operations
from pilvi.services.sns.attributes import checked_feedback
from pilvi.services.sns.errors import bad_arn, bad_attributes, invalid, no_application, not_built
from pilvi.services.sns.topic import position, token_of
from pilvi.services.sns.topics import DATA, SERVICE
from pilvi.storage.records import Change, Delete, Insert, Row, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

ops = Operations(on_loop=True)

PAGE: Final = 100
MOST_NAME: Final = 256
PLATFORMS: Final = (
    "ADM",
    "APNS",
    "APNS_SANDBOX",
    "APNS_VOIP",
    "APNS_VOIP_SANDBOX",
    "BAIDU",
    "FCM",
    "GCM",
    "MACOS",
    "MACOS_SANDBOX",
    "MPNS",
    "WNS",
)
_WITH_PRINCIPAL: Final = ("ADM", "APNS", "APNS_SANDBOX", "APNS_VOIP", "APNS_VOIP_SANDBOX", "BAIDU", "MACOS", "MACOS_SANDBOX", "WNS")
_SECRETS: Final = ("PlatformCredential", "PlatformPrincipal", "ApplePlatformTeamID", "ApplePlatformBundleID")
_EVENTS: Final = ("EventEndpointCreated", "EventEndpointDeleted", "EventEndpointUpdated", "EventDeliveryFailure")
_FEEDBACK: Final = ("SuccessFeedbackRoleArn", "FailureFeedbackRoleArn", "SuccessFeedbackSampleRate")
_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")


@ops
async def create_platform_application(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take a mobile app down; the same again gives the same ARN.

    req: Name, Platform (APNS, GCM, ADM, ...), Attributes (PlatformCredential; PlatformPrincipal where the platform has one).
    Errors: InvalidParameter - name, platform, attributes. NotImplemented - events of applications.
    Differs: credentials are kept and never used: pushes go to the spool.
    """
    name, platform = req["Name"], req["Platform"]
    _check_name(name)
    if platform not in PLATFORMS:
        raise invalid(f"Platform Reason: {platform} is not supported")
    attributes, secrets = _parted(req["Attributes"])
    if not secrets.get("PlatformCredential"):
        if secrets.get("PlatformPrincipal"):
            raise bad_attributes("PlatformPrincipal attribute provided without PlatformCredential")
        raise bad_attributes("Invalid value for attribute: PlatformCredential: cannot be empty")
    if platform in _WITH_PRINCIPAL and not secrets.get("PlatformPrincipal"):
        raise bad_attributes("PlatformCredential attribute provided without PlatformPrincipal")
    key = f"{platform}/{name}"
    value = {"attributes": attributes, "secrets": _sealed(ctx, key, secrets), "created": ctx.clock.time_s()}
    with suppress(AlreadyExists):  # the application stays as it was, as on AWS
        await ctx.store.commit([Insert(application_table(ctx.account, ctx.region), key, value)])
    return {"PlatformApplicationArn": ctx.arn(f"app/{key}")}


@ops
async def list_platform_applications(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mobile apps here, 100 at a time. Errors: InvalidParameter - a foreign token."""
    rows = ctx.store.scan(application_table(ctx.account, ctx.region), after=position(req.get("NextToken")), limit=PAGE + 1)
    found = [{"PlatformApplicationArn": ctx.arn(f"app/{row.id}"), "Attributes": _shown(row)} for row in rows[:PAGE]]
    return {"PlatformApplications": found} | ({"NextToken": token_of(rows[PAGE - 1].id)} if len(rows) > PAGE else {})


@ops
async def get_platform_application_attributes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is set of a mobile app; its credentials are not told. Errors: NotFound, InvalidParameter."""
    _, row = find_application(ctx, req["PlatformApplicationArn"])
    return {"Attributes": _shown(row)}


@ops
async def set_platform_application_attributes(ctx: Context, req: Mapping[str, Any]) -> None:
    """Change attributes of a mobile app; Enabled false lets no push through. Errors: NotFound, InvalidParameter, NotImplemented."""
    attributes, secrets = _parted(req["Attributes"])
    while True:
        table, row = find_application(ctx, req["PlatformApplicationArn"])
        value = {**row.value, "attributes": {**row.value["attributes"], **attributes}}
        if secrets:
            kept = json.loads(ctx.keyring.unseal(value["secrets"], _context(row.id)))
            value["secrets"] = _sealed(ctx, row.id, {**kept, **secrets})
        try:
            await ctx.store.commit([Update(table, row.id, value, row.version)])
        except Conflict:
            continue
        return


@ops
async def delete_platform_application(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a mobile app with its endpoints; one that is not there is no error. Errors: InvalidParameter."""
    where = parsed_application(req["PlatformApplicationArn"])
    table = application_table(where.account, where.region)
    key = where.resource.removeprefix("app/")
    if ctx.store.get(table, key) is None or where.account != ctx.principal.account:
        return
    changes: list[Change] = [Delete(table, key)]
    after, endpoints = "", Table(where.account, where.region, DATA, "Endpoint")
    while rows := ctx.store.scan(endpoints, prefix=f"{key}/", after=after):
        changes += [Delete(endpoints, row.id) for row in rows]
        after = rows[-1].id
    await ctx.store.commit(changes)


# -- what others use --------------------------------------------------------------------------------------------------------


def application_table(account: str, region: str) -> Table:
    return Table(account, region, SERVICE, "PlatformApplication")


def parsed_application(arn: str) -> Arn:
    found = Arn.parse(arn)
    if found is None or found.service != SERVICE or not found.resource.startswith("app/"):
        raise bad_arn("PlatformApplicationArn", arn)
    return found


def find_application(ctx: Context, arn: str) -> tuple[Table, Row]:
    """An application of the caller's. NotFound, InvalidParameter."""
    where = parsed_application(arn)
    table = application_table(where.account, where.region)
    row = ctx.store.get(table, where.resource.removeprefix("app/"))
    if row is None or where.account != ctx.principal.account:
        raise no_application()
    return table, row


def attributes_of(cloud: Cloud, account: str, region: str, key: str) -> dict[str, str]:
    """What is set of an application; one that is gone is not enabled."""
    row = cloud.store.get(application_table(account, region), key)
    return {"Enabled": "false"} if row is None else {"Enabled": "true", **row.value["attributes"]}


# -- inside -----------------------------------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if not name:
        raise invalid(" Reason: cannot be empty")
    if len(name) > MOST_NAME:
        raise invalid(f"{name} Reason: must be at most {MOST_NAME} characters long")
    if not _NAME.match(name):
        raise invalid(f"{name} Reason: must contain only characters 'a'-'z', 'A'-'Z', '0'-'9', '_', '-', and '.'")


def _parted(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Attributes that are told, and secrets."""
    attributes: dict[str, str] = {}
    secrets: dict[str, str] = {}
    for name, value in given.items():
        if name in _SECRETS:
            secrets[name] = value
        elif name == "Enabled":
            if value.lower() not in ("true", "false"):
                raise bad_attributes("Invalid value for attribute: Enabled")
            attributes[name] = value.lower()
        elif name in _EVENTS:
            raise not_built(f"The attribute {name} of platform applications is")
        elif name in _FEEDBACK:
            attributes[name] = checked_feedback(name, value)
        else:
            raise bad_attributes(f"Invalid attribute name: {name}")
    return attributes, secrets


def _shown(row: Row) -> dict[str, str]:
    return {"Enabled": "true", **row.value["attributes"]}


def _sealed(ctx: Context, key: str, secrets: Mapping[str, str]) -> bytes:
    return ctx.keyring.seal(json.dumps(secrets).encode(), _context(key))


def _context(key: str) -> bytes:
    return b"sns application:" + key.encode()
