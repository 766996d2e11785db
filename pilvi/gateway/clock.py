"""`/_pilvi/clock`: the product's time. GET tells it to whoever asks; POST moves it, for whom the server belongs to.

    POST {"advance": "31d"}   or {"advance": "2027-01-01"}   -> {"time", "ahead_s", "ran", "failed"} once all that became due has run

A POST is signed (Signature Version 4, any service) by the root of the server's own account, as `pilvi clock` does it; with
`--auth open` by nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

from pilvi.auth.sigv4 import read_claim, verify
from pilvi.core.clock import seconds_to, span_text
from pilvi.core.errors import Invalid, PilviError

if TYPE_CHECKING:
    from pilvi.app.cloud import Cloud
    from pilvi.core.http import Request

PATH = "/_pilvi/clock"
BODY_BYTES = 4096


async def clock(cloud: Cloud, request: Request) -> tuple[int, dict[str, Any]]:
    """(status, JSON)"""
    if request.method == "GET":
        return 200, clock_facts(cloud)
    if request.method != "POST":
        return 405, {"message": f"{PATH} is read by GET and moved by POST"}
    if request.body.length is None or request.body.length > BODY_BYTES:
        return 400, {"message": 'the body is JSON like {"advance": "31d"}'}
    body = await request.body.read()
    try:
        if cloud.config.auth != "open" and not is_owner(cloud, request, body):
            return 403, {"message": "the clock is moved by the root of the server's own account: pilvi clock advance"}
        by_s = seconds_to(asked(body), cloud.clock.now())
        ran = await asyncio.to_thread(cloud.advance_clock, by_s)
    except Invalid as error:
        return 400, {"message": error.message}
    except PilviError as error:
        return 403, {"message": error.message}
    return 200, {**clock_facts(cloud), "ran": list(ran.done), "failed": list(ran.failed)}


def clock_facts(cloud: Cloud) -> dict[str, Any]:
    """The product's time and how far it is ahead of the world's."""
    ahead = cloud.product_clock.offset()
    return {
        "time": f"{cloud.clock.now():%Y-%m-%dT%H:%M:%SZ}",
        "real_time": f"{cloud.clock.real_now():%Y-%m-%dT%H:%M:%SZ}",
        "ahead_s": ahead,
        "ahead": span_text(ahead),
    }


def asked(body: bytes) -> str:
    try:
        told = json.loads(body)["advance"]
    except (ValueError, KeyError, TypeError):
        told = None
    if not isinstance(told, str):
        raise Invalid('the body is JSON like {"advance": "31d"}')
    return told


async def may_govern(cloud: Cloud, request: Request) -> bool:
    """Whether the owner asks for something that needs few words. Reads the body."""
    if request.body.length is None or request.body.length > BODY_BYTES:
        return False
    body = await request.body.read()
    try:
        return cloud.config.auth == "open" or is_owner(cloud, request, body)
    except PilviError:
        return False


def is_owner(cloud: Cloud, request: Request, body: bytes) -> bool:
    """Whether the server's own root has signed this. AuthError for a signature that is not right."""
    claim = read_claim(request)
    identity = cloud.identities.find(claim.access_key_id, claim.session_token) if claim is not None else None
    if claim is None or identity is None or identity.session_token:
        return False
    verify(claim, request, identity.secret, now=cloud.clock.real_now(), body_hash=hashlib.sha256(body).hexdigest())
    principal = identity.principal
    # The first account's key is the one that `pilvi` reads from the data directory.
    return principal.kind == "root" and principal.account in (cloud.config.account, *cloud.identities.accounts()[:1])
