"""The story of a request, one list. Every API call takes every step; none is skipped for anyone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilvi.core.errors import PilviError
from pilvi.core.http import Response
from pilvi.core.streams import ClientGone
from pilvi.gateway.call import Call
from pilvi.gateway.steps.afterwards import complete, expects_more
from pilvi.gateway.steps.authenticate import authenticate
from pilvi.gateway.steps.authorize import authorize
from pilvi.gateway.steps.forward import forward
from pilvi.gateway.steps.perform import perform
from pilvi.gateway.steps.receive import receive
from pilvi.gateway.steps.reply import internal_failure, refuse, reply
from pilvi.gateway.steps.route import route
from pilvi.gateway.steps.site import visit
from pilvi.gateway.steps.understand import understand

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway

log = logging.getLogger("pilvi.gateway")


async def answer(gateway: Gateway, call: Call) -> None:
    """Fill in `call.response`; never raises."""
    try:
        route(gateway, call)
        if gateway.may_forward and await forward(gateway, call):
            return
        if call.match is not None and call.match.site:
            await visit(gateway, call)
        else:
            await receive(gateway, call)
            authenticate(gateway, call)
            await understand(gateway, call)
            authorize(gateway, call)
            await perform(gateway, call)
            reply(gateway, call)
    except PilviError as error:
        refuse(gateway, call, error)
    except ClientGone as error:
        call.error_code = "ClientDisconnected"
        call.response = Response(400)  # nobody is there to read it
        log.debug("request %s: %s", call.request_id, error)
    except Exception:
        log.exception("request %s failed", call.request_id)
        refuse(gateway, call, internal_failure())
    if expects_more(call):
        await complete(gateway, call)
