"""What is asked for, as the model says it: find the operation's home, decode, default and check the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.core.service import Context
from pilvi.gateway.dispatch import not_built

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


async def understand(gateway: Gateway, call: Call) -> None:
    match = call.match
    assert match is not None
    operation = match.operation
    assert operation is not None
    service = await gateway.service(match.service)
    if service is None or operation.function not in service.handlers:
        raise not_built(operation)
    call.service = service
    call.operation = operation
    body = call.body if call.body is not None else call.request.body
    call.params = operation.decode(call.request, body, match.path_params, match.protocol)
    operation.check(call.params)
    call.context = Context(
        gateway.cloud,
        principal=call.principal,
        account=call.principal.account,
        region=call.region,
        service=match.service,
        operation=operation.name,
        request_id=call.request_id,
        source_ip=call.request.client,
        identity=call.identity,
        secure=call.request.scheme == "https",
        user_agent=call.request.headers.get("user-agent", ""),
        claim=call.claim,
        tls=call.request.tls,
        vpce=match.vpce,
        trace=call.request.headers.get("x-amzn-trace-id", "")[:512],
        request=call.request,
    )
