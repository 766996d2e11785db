"""Do it: the operation's handler runs, in a thread or on the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


async def perform(gateway: Gateway, call: Call) -> None:
    call.result = await gateway.dispatcher.perform(call.service, call.operation, call.context, call.params)
