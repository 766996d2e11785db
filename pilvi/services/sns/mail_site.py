"""The spool over HTTP, for `pilvi mail`: AWS has no such API, as its letters leave.

    GET  /_aws/mail/                the newest letters, without their texts; ?limit=100
    GET  /_aws/mail/<id>            one with its text; `last` is the newest
    POST /_aws/mail/stop/<number>   as if the phone had answered STOP: it gets no more text messages

Signed as a call of SNS; needs the permission `pilvi:ReadMail`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from pilvi.core.errors import Invalid, NotFound, PilviError
from pilvi.core.http import Request, Response
from pilvi.core.service import Access, Context
from pilvi.services.sns import sms, spool
from pilvi.services.sns.endpoints import phone_number

PATH: Final = "/_aws/mail/"
LISTED: Final = 100


async def mail(ctx: Context, request: Request) -> Response:
    """What the caller's account would have sent."""
    if not ctx.principal.account:
        return _said(403, {"message": "The request is not signed."})
    name = unquote(request.raw_path.removeprefix(PATH)).strip("/")
    try:
        ctx.authorize(Access("pilvi:ReadMail"))
        if request.method == "POST" and name.startswith("stop/"):
            number = phone_number(name.removeprefix("stop/"))
            if not number:
                raise Invalid("That is no phone number.")
            await sms.opt_out(ctx, number)
            return _said(200, {"phoneNumber": number, "isOptedOut": True})
        if request.method != "GET":
            return _said(405, {"message": "Ask with GET."})
        if name:
            return _said(200, await asyncio.to_thread(spool.read, ctx.cloud, ctx.account, name))
        found = await asyncio.to_thread(spool.letters, ctx.cloud, ctx.account, _limit(request.query))
        return _said(200, {"letters": found})
    except NotFound as error:
        return _said(404, {"message": error.message})
    except PilviError as error:
        return _said(400 if isinstance(error, Invalid) else 403, {"message": error.message})


def _limit(query: str) -> int:
    text = parse_qs(query).get("limit", [str(LISTED)])[-1]
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise Invalid("limit must be 1 to 10000.")
    return int(text)


def _said(status: int, content: dict[str, Any]) -> Response:
    return Response(status, [("Content-Type", "application/json")], json.dumps(content).encode())
