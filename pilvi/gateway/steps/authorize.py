"""May the caller do this? Policies are evaluated for every permission the call needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.gateway.dispatch import as_service_error

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


def authorize(gateway: Gateway, call: Call) -> None:
    call.access = tuple(gateway.dispatcher.needed(call.service, call.operation, call.context, call.params))
    for access in call.access:
        error = gateway.dispatcher.check(call.context, access)
        if error is not None:
            raise as_service_error(call.service, error)
