"""Plain HTTP that is no AWS API: a deployed REST API's own URLs, a function's runtime API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.core.errors import Unsupported
from pilvi.core.principal import ANONYMOUS
from pilvi.core.service import Context
from pilvi.gateway.steps.authenticate import authenticate

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


_SIGNED = frozenset({"bill", "mail", "spot"})
"""Sites that are asked with a signature, as AWS's APIs are, and without a body."""


_PLACED = frozenset({"preflight", "post-object", "website"})
"""Sites that are told which bucket and key the host and the path name."""


async def visit(gateway: Gateway, call: Call) -> None:
    match = call.match
    assert match is not None
    service = await gateway.service(match.service)
    site = service.sites.get(match.site) if service is not None else None
    if site is None:
        raise Unsupported(f"{match.service} serves no {match.site} here.")
    is_signed = match.site in _SIGNED and call.claim is not None
    if is_signed:
        call.body = b""
        authenticate(gateway, call)
    context = Context(
        gateway.cloud,
        principal=call.principal if is_signed else ANONYMOUS,
        account=call.principal.account if is_signed else gateway.config.account,
        region=call.region,
        service=match.service,
        request_id=call.request_id,
        source_ip=call.request.client,
        secure=call.request.scheme == "https",
        user_agent=call.request.headers.get("user-agent", ""),
        tls=call.request.tls,
        vpce=match.vpce,
    )
    if match.site in _PLACED:
        call.response = await site(context, call.request, match.path_params)
    else:
        call.response = await site(context, call.request)
