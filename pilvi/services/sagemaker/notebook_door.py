"""How browsers and programs reach a notebook: plain HTTP under /_aws/notebook/.

    GET /_aws/notebook/open/<name>?authToken=...    a presigned URL: leads to Jupyter or Studio, once
    GET /_aws/notebook/credentials/<run>            the role's keys, for the AWS clients inside

Source: AWS SDKs and Tools reference guide, "Container credential provider".
"""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qs

from pilvi.core.errors import PilviError
from pilvi.core.http import Request, Response
from pilvi.core.service import Context
from pilvi.services.sagemaker.notebook_fleet import fleet_of
from pilvi.services.sagemaker.notebook_runs import runs_of
from pilvi.services.sagemaker.notebook_ticket import PATH
from pilvi.services.sagemaker.studio_fleet import HOME, studio_of
from pilvi.services.sagemaker.studio_page import page


async def door(ctx: Context, request: Request) -> Response:
    """Answer one request at the door."""
    kind, _, rest = request.raw_path.removeprefix(PATH).partition("/")
    if request.method != "GET" or kind not in ("open", "credentials"):
        return _said(404, "NotFound", "There is nothing here.")
    await asyncio.to_thread(fleet_of, ctx.cloud)
    await asyncio.to_thread(studio_of, ctx.cloud)
    runs = runs_of(ctx.cloud)
    if kind == "open":
        token = "".join(parse_qs(request.query).get("authToken", ())[:1])
        ticket = runs.tickets.take(token)
        if ticket is not None and ticket.place.name.startswith(HOME):
            return _html(await asyncio.to_thread(page, ctx.cloud, ticket))
        url = None if ticket is None else runs.entrance(ticket.place, ticket.session_s, ticket.path, ticket.user)
        if url is None:
            return _page(403, "This URL was opened before, has expired, or what it leads to does not run.")
        return Response(302, [("Location", url), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")])
    try:
        keys = await asyncio.to_thread(runs.credentials, rest, request.header("authorization"))
    except PilviError as error:
        return _said(400, "AccessDenied", str(error))
    if keys is None:
        return _said(403, "AccessDenied", "This is not a notebook of this server.")
    return Response(200, [("Content-Type", "application/json"), ("Cache-Control", "no-store")], json.dumps(keys).encode())


def _said(status: int, code: str, message: str) -> Response:
    """An error as the clients of the container contract read it."""
    return Response(status, [("Content-Type", "application/json")], json.dumps({"code": code, "message": message}).encode())


def _page(status: int, text: str) -> Response:
    return Response(status, [("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode())


def _html(text: str) -> Response:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store"), ("Content-Security-Policy", policy)]
    return Response(200, headers, text.encode())
