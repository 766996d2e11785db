"""The password a registry gives a caller: sealed, good for some hours, worth what the caller's own key is worth.

GetAuthorizationToken -> issue() -> "AWS:<password>" -> docker login -> Authorization: Basic | Bearer -> caller()
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.http import Request
from pilvi.core.principal import ANONYMOUS
from pilvi.core.service import Context
from pilvi.images.distribution import Refused

USER = "AWS"
LIFE = timedelta(hours=12)
"""Source: ECR API reference, GetAuthorizationToken."""
_SEAL = b"registry-password"


def issue(ctx: Context) -> tuple[str, datetime]:
    """A password for this context's caller, and when it ends."""
    until = ctx.clock.real_now() + LIFE
    if ctx.identity is not None and ctx.identity.expires is not None:
        until = min(until, ctx.identity.expires)
    facts = {
        "key": ctx.identity.access_key_id if ctx.identity is not None else ctx.principal.access_key_id,
        "session": ctx.identity.session_token if ctx.identity is not None else "",
        "account": ctx.account,
        "region": ctx.region,
        "until": int(until.timestamp()),
    }
    return sealed(ctx, facts), until


def anonymous(ctx: Context) -> str:
    """A password of nobody, for whoever may come in without one."""
    until = int((ctx.clock.real_now() + LIFE).timestamp())
    return sealed(ctx, {"key": "", "session": "", "account": ctx.account, "region": ctx.region, "until": until})


def sealed(ctx: Context, facts: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(ctx.keyring.seal(json.dumps(facts).encode(), _SEAL)).decode()


def unsealed(ctx: Context, text: str) -> dict[str, Any] | None:
    """What a sealed text says, while it is good; None when it is not one of ours."""
    try:
        facts: dict[str, Any] = json.loads(ctx.keyring.unseal(base64.urlsafe_b64decode(text), _SEAL))
    except (Invalid, ValueError, binascii.Error):
        return None
    if datetime.fromtimestamp(facts["until"], UTC) <= ctx.clock.real_now():
        raise Refused(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
    return facts


def password_in(request: Request) -> str | None:
    """The password a request brings; None for none at all. Refused when its form is wrong."""
    kind, _, value = request.header("authorization").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(value).decode().partition(":")
    except (ValueError, binascii.Error):
        raise Refused(401, "UNAUTHORIZED", "Not Authorized") from None
    if not user and not password:
        return None
    return password if user == USER else ""


def caller(ctx: Context, password: str) -> Context | None:
    """The context of whom the password was given to, in the account and Region it was given in; None when it is wrong."""
    facts = unsealed(ctx, password)
    if facts is None or "key" not in facts:  # a layer's address is sealed as well, and is no password
        return None
    if not facts["key"]:
        return _context(ctx, facts, ANONYMOUS, None)
    identity = ctx.cloud.identities.find(facts["key"], facts["session"])
    if identity is not None:
        if identity.expires is not None and identity.expires <= ctx.clock.real_now():
            raise Refused(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
        return _context(ctx, facts, replace(identity.principal, access_key_id=identity.access_key_id), identity)
    if ctx.config.auth != "open":
        return None
    return _context(ctx, facts, replace(ctx.cloud.identities.root(facts["account"]), access_key_id=facts["key"]), None)


def _context(ctx: Context, facts: dict[str, Any], principal: Any, identity: Any) -> Context:
    return Context(
        ctx.cloud,
        principal=principal,
        account=facts["account"],
        region=facts["region"],
        service=ctx.service,
        request_id=ctx.request_id,
        source_ip=ctx.source_ip,
        identity=identity,
        secure=ctx.secure,
        user_agent=ctx.user_agent,
    )
