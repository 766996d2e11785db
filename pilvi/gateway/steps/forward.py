"""In a worker: pass on what the first process has to do. Reads stay here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.gateway.steps.afterwards import PAYER
from pilvi.gateway.steps.receive import receive
from pilvi.protocol.quirks import S3_AS_SENT

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


async def forward(gateway: Gateway, call: Call) -> bool:
    """True when the answer came from the first process, or from the server that leads."""
    if call.match is not None and call.match.needs_body:
        await receive(gateway, call)
    if gateway.servers is not None:
        service = call.match.service if call.match is not None else ""
        is_here = gateway.servers.leads or (gateway.servers.serves(service) and not runs_functions(call))
        elsewhere = None if is_here else gateway.to_leader()
    else:
        elsewhere = None if is_read(gateway, call) else gateway.elsewhere
    if elsewhere is None:
        return False
    call.is_forwarded = True
    call.response = await elsewhere.send(call.request, call.body)
    return True


def runs_functions(call: Call) -> bool:
    """Object Lambda: requests and their functions' answers meet in one process, the one that runs functions."""
    match = call.match
    if match is None or match.operation is None or match.service != "s3":
        return False
    return S3_AS_SENT in match.path_params or match.operation.name == "WriteGetObjectResponse"


def is_read(gateway: Gateway, call: Call) -> bool:
    match = call.match
    if match is None or match.operation is None or PAYER in call.request.headers or PAYER in call.request.query:
        return False  # who pays is written down
    if runs_functions(call):
        return False
    service = gateway.registry.find(match.service)
    return service is not None and match.operation.function in service.anywhere
