"""What the service adds to an answer, results and errors alike: for requests that ask for more than the operation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilvi.core.service import Context

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call

log = logging.getLogger("pilvi.gateway")

ORIGIN = "origin"
PAYER = "x-amz-request-payer"


def expects_more(call: Call) -> bool:
    """A page of another origin asks, or somebody who pays for a bucket that is not theirs. Looked at for every request."""
    request = call.request
    return ORIGIN in request.headers or PAYER in request.headers or PAYER in request.query


async def complete(gateway: Gateway, call: Call) -> None:
    match = call.match
    if match is None or call.is_forwarded or not gateway.registry.is_loaded(match.service):
        return
    service = gateway.registry.find(match.service)
    if service is None or service.afterwards is None:
        return
    context = Context(
        gateway.cloud,
        principal=call.principal,
        account=call.principal.account,
        region=call.region,
        service=match.service,
        operation=match.operation.name if match.operation is not None else "",
        request_id=call.request_id,
    )
    try:
        await service.afterwards(context, call.request, match.path_params, call.response)
    except Exception:
        log.exception("request %s: the answer could not be completed", call.request_id)
