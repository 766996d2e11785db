"""In a worker: pass on what the first process has to do. Reads stay here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.gateway.steps.afterwards import PAYER
from pilvi.gateway.steps.receive import receive

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


async def forward(gateway: Gateway, call: Call) -> bool:
    """True when the answer came from the first process."""
    if call.match is not None and call.match.needs_body:
        await receive(gateway, call)
    if is_read(gateway, call):
        return False
    assert gateway.elsewhere is not None
    call.is_forwarded = True
    call.response = await gateway.elsewhere.send(call.request, call.body)
    return True


def is_read(gateway: Gateway, call: Call) -> bool:
    match = call.match
    if match is None or match.operation is None or PAYER in call.request.headers or PAYER in call.request.query:
        return False  # who pays is written down
    service = gateway.registry.find(match.service)
    return service is not None and match.operation.function in service.anywhere
