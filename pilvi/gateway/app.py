"""The gateway: every request, AWS's or our own, comes in here and leaves an audit record."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from pilvi.core.errors import Unavailable
from pilvi.core.http import Request, Response
from pilvi.gateway.call import Call
from pilvi.gateway.chain import answer
from pilvi.gateway.clock import PATH as CLOCK
from pilvi.gateway.clock import clock, clock_facts, may_govern
from pilvi.gateway.letters import PATH as LETTERS
from pilvi.gateway.letters import letters
from pilvi.gateway.shortcut import Shortcut
from pilvi.gateway.steps.reply import plain
from pilvi.protocol.route import Router

if TYPE_CHECKING:
    from pilvi.app.cloud import Cloud
    from pilvi.core.service import Service, Witness
    from pilvi.gateway.audit import Audit
    from pilvi.gateway.forward import Forwarder

log = logging.getLogger("pilvi.gateway")


class Gateway:
    def __init__(self, cloud: Cloud, audit: Audit, elsewhere: Forwarder | None = None) -> None:
        """elsewhere: in a worker, the way to the first process for all that is not a mere read."""
        self.cloud = cloud
        self.config = cloud.config
        self.clock = cloud.clock
        self.identities = cloud.identities
        self.registry = cloud.registry
        self.dispatcher = cloud.dispatcher
        self.router = Router(cloud.models)
        self.audit = audit
        self.dispatcher.audit = audit
        self.elsewhere = elsewhere
        self.servers = cloud.servers
        self.may_forward = elsewhere is not None or cloud.servers is not None
        self._leader: tuple[str, Forwarder] | None = None
        self.is_ready = False
        self.shortcut = Shortcut(self)

    async def answer(self, request: Request) -> Response:
        if request.raw_path.startswith("/_pilvi/") and not request.raw_path.startswith("/_pilvi/lambda/"):
            return await (self._own(request) if self.elsewhere is None else self.elsewhere.send(request, None))
        call = Call(request, self.cloud.ids.request(), self.clock.real_s())
        await answer(self, call)
        if not call.is_forwarded:
            self.audit.add(call)
            match = call.match
            if match is not None and (service := self.registry.seen(match.service)) is not None and service.witness is not None:
                self._show(service.witness, call)
        return call.response

    def _show(self, witness: Witness, call: Call) -> None:
        try:
            witness(self.cloud, call)
        except Exception:
            log.exception("request %s: its service could not take note of it", call.request_id)

    async def service(self, name: str) -> Service | None:
        """A service, or None when it is not built; imported in a thread when it is asked for first."""
        if self.registry.is_loaded(name):
            return self.registry.find(name)
        return await asyncio.to_thread(self.registry.find, name)

    def to_leader(self) -> Forwarder:
        """The way to the server that leads; Unavailable while there is none."""
        from pilvi.gateway.forward import Forwarder

        assert self.servers is not None
        address = self.servers.leader_endpoint.partition("://")[2]
        if not address:
            raise Unavailable("No server leads at this moment; please try again.")
        if self._leader is None or self._leader[0] != address:
            self._leader = (address, Forwarder(address))
        return self._leader[1]

    async def _own(self, request: Request) -> Response:
        """The server's own few addresses."""
        match request.method, request.raw_path:
            case "GET", "/_pilvi/health":
                if not self.is_ready:
                    return json_response(503, {"status": "starting"})
                return json_response(
                    200,
                    {
                        "status": "ready",
                        "jobs": self.cloud.jobs.queue_facts(),
                        "clock": clock_facts(self.cloud),
                        "events": await asyncio.to_thread(self.cloud.letters.status),
                        **self.cloud.scrubbing.status(),
                    },
                )
            case "POST", "/_pilvi/reset":
                if self.config.auth != "open":
                    return json_response(403, {"message": "reset is refused: this server runs with --auth strict"})
                await asyncio.to_thread(self.cloud.reset)
                return json_response(200, {"status": "empty"})
            case "POST", "/_pilvi/scrub":
                if not await may_govern(self.cloud, request):
                    return json_response(
                        403, {"message": "a scrub is asked for by the root of the server's own account: pilvi scrub"}
                    )
                return json_response(200, await asyncio.to_thread(self.cloud.scrubbing.run))
        if request.raw_path == LETTERS:
            return json_response(*await letters(self.cloud, request))
        if request.raw_path == CLOCK:
            return json_response(*await clock(self.cloud, request))
        return json_response(404, {"message": f"{request.method} {request.raw_path} is not an address of this server"})


def json_response(status: int, body: dict[str, object]) -> Response:
    return plain(status, json.dumps(body).encode())
