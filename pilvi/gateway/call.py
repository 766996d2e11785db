"""One request on its way through the chain: what each step has found out so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.http import Request, Response
from pilvi.core.principal import ANONYMOUS, Principal
from pilvi.core.service import Access, Context, Service

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity
    from pilvi.auth.sigv4 import Claim
    from pilvi.protocol.models import Operation
    from pilvi.protocol.route import Match


class Call:
    """Written out, not a dataclass: one is made for every request, and a plain class compiles."""

    def __init__(self, request: Request, request_id: str, started: float) -> None:
        """started: seconds since 1970."""
        self.request = request
        self.request_id = request_id
        self.started = started
        self.claim: Claim | None = None
        self.match: Match | None = None
        self.body: bytes | None = None
        """The buffered body; None when it streams."""
        self.identity: Identity | None = None
        self.principal: Principal = ANONYMOUS
        self.region = ""
        self.access: tuple[Access, ...] = ()
        self.result: Any = None
        self.error_code = ""
        self.is_forwarded = False
        """The first process answers it, and audits it."""
        self.response: Response
        self.params: Mapping[str, Any]
        self.service: Service
        self.operation: Operation
        self.context: Context
        """The last four are known once the request is understood; earlier steps do not touch them."""
