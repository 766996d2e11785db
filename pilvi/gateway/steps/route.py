"""Which service and operation is meant: by the signature's scope, target header, host, path and Action."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.auth.errors import AuthError
from pilvi.auth.sigv4 import known_region, read_claim, unknown_region

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


def route(gateway: Gateway, call: Call) -> None:
    try:
        claim = call.claim = read_claim(call.request)
    except AuthError as error:
        call.match = gateway.router.route(call.request, error.service or None)
        raise
    call.match = gateway.router.route(call.request, claim.service if claim is not None else None)
    call.region = (claim.region if claim is not None else "") or gateway.config.region
    if claim is not None and claim.region and not known_region(claim.region):
        raise unknown_region(claim, gateway.config.region)
    if call.match.error is not None:
        raise call.match.error
