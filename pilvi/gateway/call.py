"""One request on its way through the chain: what each step has found out so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilvi.core.http import Request, Response
from pilvi.core.principal import ANONYMOUS, Principal
from pilvi.core.service import Access, Context, Service

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity
    from pilvi.auth.sigv4 import Claim
    from pilvi.protocol.models import Operation
    from pilvi.protocol.route import Match


@dataclass(slots=True)
class Call:
    request: Request
    request_id: str
    started: float
    """Seconds since 1970."""
    claim: Claim | None = None
    match: Match | None = None
    body: bytes | None = None
    """The buffered body; None when it streams."""
    identity: Identity | None = None
    principal: Principal = ANONYMOUS
    region: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    access: tuple[Access, ...] = ()
    result: Any = None
    error_code: str = ""
    is_forwarded: bool = False
    """The first process answers it, and audits it."""
    response: Response = field(default_factory=Response)
    service: Service = field(init=False)
    operation: Operation = field(init=False)
    context: Context = field(init=False)
    """These three are known once the request is understood; earlier steps do not touch them."""
