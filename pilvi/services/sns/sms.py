"""Text messages: to phones directly, preferences, who wants none, and the sandbox. They end in the spool; no phone rings.

    Table(account, Region, "sns", "Sms")              "attributes" -> {name: value}
    Table(account, Region, "sns", "OptedOut")         phone number -> {at, opted_in}
    Table(account, Region, "sns", "SandboxNumber")    phone number -> {status, code: its digest, asked}

Source: SNS API reference, SetSMSAttributes, OptInPhoneNumber, CreateSMSSandboxPhoneNumber; developer guide, "Mobile text messaging".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.events.outgoing import Answer
from pilvi.services.sns import spool, status_log
from pilvi.services.sns.drafts import Draft, message_of
from pilvi.services.sns.endpoints import phone_number
from pilvi.services.sns.errors import invalid, not_built
from pilvi.services.sns.topic import position, token_of
from pilvi.services.sns.topics import SERVICE, as_sns
from pilvi.services.sns.usage import count
from pilvi.storage.records import Delete, Put, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

ops = Operations(on_loop=True)

PAGE: Final = 100
MOST_SANDBOX: Final = 10
MOST_TRIES: Final = 5
"""Of one code."""
CODE_S: Final = 15 * 60.0
OPT_IN_EVERY_S: Final = 30 * 86_400.0
_TYPES: Final = ("Promotional", "Transactional")
_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "MonthlySpendLimit": lambda text: text.isascii() and text.isdigit(),
    "DeliveryStatusIAMRole": lambda text: not text or ":role/" in text,
    "DeliveryStatusSuccessSamplingRate": lambda text: text.isascii() and text.isdigit() and int(text) <= 100,
    "DefaultSenderID": lambda text: 1 <= len(text) <= 11 and text.isascii() and text.isalnum() and not text.isdigit(),
    "DefaultSMSType": lambda text: text in _TYPES,
    "UsageReportS3Bucket": lambda _: True,
}
_ATTRIBUTES: Final = frozenset(_CHECKS)


@ops
async def set_sms_attributes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Set preferences for text messages: sender, type. Errors: InvalidParameter.

    Differs: usage reports are refused. MonthlySpendLimit is never reached: text messages cost nothing here.
    """
    given = req["attributes"]
    for name, value in given.items():
        if name not in _ATTRIBUTES:
            raise _bad(f"{name} is not a valid attribute")
        if name == "UsageReportS3Bucket" and value:
            raise not_built("Usage reports of text messages are")
        if not _CHECKS[name](value):
            raise _bad(f"{name} is invalid")
    kept = {**_attributes(ctx), **given}
    await ctx.store.commit([Put(_table(ctx, "Sms"), "attributes", kept)])
    return {}


@ops
async def get_sms_attributes(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The preferences for text messages. Errors: InvalidParameter - no such attribute."""
    asked = req.get("attributes") or []
    for name in asked:
        if name not in _ATTRIBUTES:
            raise _bad(f"{name} is not a valid attribute")
    found = _attributes(ctx)
    return {"attributes": {name: value for name, value in found.items() if not asked or name in asked}}


@ops
async def check_if_phone_number_is_opted_out(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether a phone wants no text messages. Errors: InvalidParameter."""
    return {"isOptedOut": is_opted_out(ctx.cloud, ctx.account, ctx.region, _number(req["phoneNumber"]))}


@ops
async def list_phone_numbers_opted_out(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Phones that want no text messages, 100 at a time. Errors: InvalidParameter."""
    rows = ctx.store.scan(_table(ctx, "OptedOut"), after=position(req.get("nextToken")), limit=PAGE + 1)
    more = {"nextToken": token_of(rows[PAGE - 1].id)} if len(rows) > PAGE else {}
    return {"phoneNumbers": [row.id for row in rows[:PAGE] if row.value["out"]]} | more


@ops
async def opt_in_phone_number(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let a phone have text messages again; once in 30 days. Errors: InvalidParameter."""
    number = phone_number(req["phoneNumber"])
    if not number:
        raise invalid("PhoneNumber Reason: input incorrectly formatted")
    row = ctx.store.get(_table(ctx, "OptedOut"), number)
    if row is None or not row.value["out"]:
        return {}
    now = ctx.clock.time_s()
    if now - row.value.get("opted_in", -OPT_IN_EVERY_S) < OPT_IN_EVERY_S:
        raise invalid("phoneNumber Reason: a number can be opted in once in 30 days")
    await ctx.store.commit([Put(_table(ctx, "OptedOut"), number, {"out": False, "opted_in": now})])
    return {}


@ops
async def list_origination_numbers(_ctx: Context, _req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The numbers that text messages come from: none can be had here."""
    return {"PhoneNumbers": []}


# -- sandbox ----------------------------------------------------------------------------------------------------------------


@ops
async def get_sms_sandbox_account_status(_ctx: Context, _req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether only verified phones get text messages: here never, as none leaves the cloud."""
    return {"IsInSandbox": False}


@ops
async def create_sms_sandbox_phone_number(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take a phone number down to be verified, and send it a code (to the spool).

    Errors: InvalidParameter. OptedOut. UserError - ten numbers are there, or it is verified already.
    """
    number = _number(req["PhoneNumber"])
    table = _table(ctx, "SandboxNumber")
    if is_opted_out(ctx.cloud, ctx.account, ctx.region, number):
        raise ServiceError("OptedOutException", f"The phone number {number} is opted out.", 400)
    there = ctx.store.get(table, number)
    if there is not None and there.value["status"] == "Verified":
        raise ServiceError("UserErrorException", f"The phone number {number} is verified already.", 400)
    if there is None and len(ctx.store.scan(table, limit=MOST_SANDBOX)) >= MOST_SANDBOX:
        raise ServiceError("UserErrorException", f"There can be {MOST_SANDBOX} sandbox phone numbers at most.", 400)
    code = f"{int(ctx.ids.hex(8), 16) % 1_000_000:06d}"
    value = {"status": "Pending", "code": _digest(number, code), "asked": ctx.clock.time_s()}
    text = f"Your verification code is {code}. It is valid for 15 minutes."
    letter = spool.posting(ctx.cloud, ctx.account, ctx.region, kind=spool.SMS, to=number, text=text, source=ctx.arn("sandbox"))
    await ctx.store.commit([Put(table, number, value), letter])
    return {}


@ops
async def verify_sms_sandbox_phone_number(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Prove a phone number by the code it was sent. Errors: ResourceNotFound, VerificationException - wrong or too old."""
    number = _number(req["PhoneNumber"])
    table = _table(ctx, "SandboxNumber")
    row = ctx.store.get(table, number)
    if row is None:
        raise _no_number(number)
    tries = row.value.get("tries", 0) + 1
    is_over = ctx.clock.time_s() - row.value["asked"] > CODE_S or tries > MOST_TRIES
    if is_over or not hmac.compare_digest(row.value["code"], _digest(number, req["OneTimePassword"])):
        await ctx.store.commit([Put(table, number, {**row.value, "tries": tries})])
        raise ServiceError("VerificationException", "The one-time password is not valid.", 400, Status="Pending")
    await ctx.store.commit([Put(table, number, {**row.value, "status": "Verified"})])
    return {}


@ops
async def list_sms_sandbox_phone_numbers(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The phone numbers taken down for the sandbox. Errors: InvalidParameter."""
    limit = min(req.get("MaxResults") or PAGE, PAGE)
    rows = ctx.store.scan(_table(ctx, "SandboxNumber"), after=position(req.get("NextToken")), limit=limit + 1)
    more = {"NextToken": token_of(rows[limit - 1].id)} if len(rows) > limit else {}
    return {"PhoneNumbers": [{"PhoneNumber": row.id, "Status": row.value["status"]} for row in rows[:limit]]} | more


@ops
async def delete_sms_sandbox_phone_number(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Forget a phone number of the sandbox. Errors: ResourceNotFound, InvalidParameter."""
    number = _number(req["PhoneNumber"])
    try:
        await ctx.store.commit([Delete(_table(ctx, "SandboxNumber"), number)])
    except NotFound:
        raise _no_number(number) from None
    return {}


# -- what others use ----------------------------------------------------------------------------------------------------------


async def text(ctx: Context, phone: str, draft: Draft) -> str:
    """A text message to a phone. Gives its message id. InvalidParameter."""
    number = _number(phone)
    message = message_of(ctx, ctx.clock.time_s(), draft)
    feedback = status_log.of_phones(ctx.account, ctx.region, _attributes(ctx))
    inside = as_sns(ctx.cloud, ctx.account, ctx.region)
    if is_opted_out(ctx.cloud, ctx.account, ctx.region, number):  # accepted, and not delivered, as on AWS
        error = ServiceError("OptedOutException", "Phone number is opted out", 400)
        await status_log.failed(inside, feedback, number, message, error, 1)
        return message.id
    body = draft.bodies.get("sms", draft.bodies.get("default", "")) if draft.bodies else draft.body
    sender = sender_of(ctx.cloud, ctx.account, ctx.region, draft.attributes)
    await ctx.store.commit([text_letter(ctx.cloud, ctx.account, ctx.region, number, body, ctx.arn(message.id), sender)])
    count(ctx.cloud, ctx.account, ctx.region, "DeliveryAttempts-SMS", "Notifications", 1)
    await status_log.succeeded(inside, feedback, number, message, Answer(200), 0.0)
    return message.id


def text_letter(cloud: Cloud, account: str, region: str, number: str, body: str, source: str, sender: str) -> Any:
    return spool.posting(cloud, account, region, kind=spool.SMS, to=number, text=body, source=source, sender=sender)


def sender_of(cloud: Cloud, account: str, region: str, attributes: Mapping[str, Mapping[str, Any]]) -> str:
    given = (attributes.get("AWS.SNS.SMS.SenderID") or {}).get("StringValue")
    row = cloud.store.get(Table(account, region, SERVICE, "Sms"), "attributes")
    return given or (row.value.get("DefaultSenderID", "") if row is not None else "") or "NOTICE"


def is_opted_out(cloud: Cloud, account: str, region: str, number: str) -> bool:
    row = cloud.store.get(Table(account, region, SERVICE, "OptedOut"), number)
    return row is not None and bool(row.value["out"])


async def opt_out(ctx: Context, number: str) -> None:
    """The phone answered STOP."""
    table = _table(ctx, "OptedOut")
    row = ctx.store.get(table, number)
    await ctx.store.commit([Put(table, number, {**(row.value if row is not None else {}), "out": True})])


# -- inside -----------------------------------------------------------------------------------------------------------------


def _table(ctx: Context, noun: str) -> Table:
    return Table(ctx.account, ctx.region, SERVICE, noun)


def _attributes(ctx: Context) -> dict[str, str]:
    row = ctx.store.get(_table(ctx, "Sms"), "attributes")
    return {"MonthlySpendLimit": "1", **({} if row is None else row.value)}


def _bad(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message, 400)


def _number(text: str) -> str:
    number = phone_number(text)
    if not number:
        raise invalid(f"PhoneNumber Reason: {text} is not valid to publish to")
    return number


def _digest(number: str, code: str) -> str:
    return hashlib.sha256(f"{number} {code}".encode()).hexdigest()


def _no_number(number: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", f"The phone number {number} is not in the sandbox.", 404)
