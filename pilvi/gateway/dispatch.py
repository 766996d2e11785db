"""Performing an operation, whoever asks: a client over HTTP, or a service through its context.

check (model) -> authorize (policies) -> handler (thread or loop) -> result or a ServiceError by AWS's code
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pilvi.auth.context import global_context
from pilvi.auth.denial import denied
from pilvi.auth.policy import decide
from pilvi.core.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    InUse,
    Invalid,
    LimitExceeded,
    NotFound,
    PilviError,
    ServiceError,
    Unavailable,
    Unsupported,
)
from pilvi.core.service import Access, Context, Service
from pilvi.core.streams import ByteStream

if TYPE_CHECKING:
    from pilvi.auth.identity import Identities
    from pilvi.gateway.audit import Audit
    from pilvi.protocol.models import Models, Operation

THREADS = 64
"""Handlers that may block at the same time; threads are made when first needed."""

AUDITED_INSIDE = frozenset({"kms"})
"""Services whose use is on record also when another service asked on somebody's behalf."""

DEFAULT_CODES: tuple[tuple[type[PilviError], str, int], ...] = (
    (NotFound, "ResourceNotFoundException", 404),
    (AlreadyExists, "ResourceAlreadyExistsException", 409),
    (Conflict, "ConflictException", 409),
    (InUse, "ResourceInUseException", 409),
    (LimitExceeded, "LimitExceededException", 400),
    (Denied, "AccessDeniedException", 403),
    (Invalid, "ValidationException", 400),
    (Unsupported, "NotImplemented", 501),
    (Unavailable, "ServiceUnavailable", 503),
)
"""For services whose own table is silent."""


class Dispatcher:
    def __init__(
        self,
        models: Models,
        find_service: Callable[[str], Service | None],
        identities: Identities,
    ) -> None:
        self._models = models
        self._find_service = find_service
        self._identities = identities
        self.threads = ThreadPoolExecutor(THREADS, "handler")
        self.loop: asyncio.AbstractEventLoop | None = None
        """The server's loop, once it runs."""
        self.audit: Audit | None = None

    # -- who may ----------------------------------------------------------------------------------------------------

    def needed(self, service: Service, operation: Operation, ctx: Context, params: Mapping[str, Any]) -> Sequence[Access]:
        """The permissions a call needs, as its service says."""
        if service.access is not None:
            return service.access(ctx, operation.name, params)
        return (Access(f"{operation.service_model.signing_name}:{operation.name}"),)

    def check(self, ctx: Context, access: Access) -> PilviError | None:
        """None when the context's principal may do this, else the error AWS gives."""
        principal = ctx.principal
        policies = self._identities.policies(ctx.identity or principal)
        context = global_context(
            principal,
            now=ctx.clock.now,
            source_ip=ctx.source_ip,
            secure=ctx.secure,
            region=ctx.region,
            user_agent=ctx.user_agent,
            identity=ctx.identity,
            claim=ctx.claim,
            tls=ctx.tls,
            vpce=ctx.vpce,
        )
        decision = decide(principal, ctx.account, policies, access, context)
        if decision.allowed:
            return None if access.also is None else self.check(ctx, access.also)
        model = self._models.service(ctx.service)
        return denied(principal, access, decision, model.protocol, model.signing_name)

    # -- performing -------------------------------------------------------------------------------------------------

    def find(self, service: str, operation: str) -> tuple[Service, Operation]:
        """A built operation, or the one honest error for what is not."""
        model = self._models.service(service)
        found = model.operation(operation)
        if found is None:
            raise ServiceError("UnknownOperationException", f"{service} has no operation {operation}.", 400)
        home = self._find_service(service)
        if home is None or found.function not in home.handlers:
            raise not_built(found)
        return home, found

    async def perform(self, service: Service, operation: Operation, ctx: Context, params: Mapping[str, Any]) -> Any:
        """Run the handler; plain errors come out as this service's own."""
        handler = service.handlers[operation.function]
        try:
            if service.is_async[operation.function]:
                return await handler(ctx, params)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.threads, handler, ctx, params)
        except PilviError as error:
            raise as_service_error(service, error) from error

    def perform_in_thread(self, service: Service, operation: Operation, ctx: Context, params: Mapping[str, Any]) -> Any:
        if service.is_async[operation.function]:
            assert self.loop is not None
            return asyncio.run_coroutine_threadsafe(self.perform(service, operation, ctx, params), self.loop).result()
        try:
            return service.handlers[operation.function](ctx, params)
        except PilviError as error:
            raise as_service_error(service, error) from error

    # -- one service calling another --------------------------------------------------------------------------------

    def call(self, ctx: Context, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        home, found, inner, checked = self._enter(ctx, service, operation, params)
        return dict(self.perform_in_thread(home, found, inner, checked) or {})

    async def acall(self, ctx: Context, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if service not in AUDITED_INSIDE:
            home, found, inner, checked = self._enter(ctx, service, operation, params)
            return dict(await self.perform(home, found, inner, checked) or {})
        try:
            home, found, inner, checked = self._enter(ctx, service, operation, params)
            result = dict(await self.perform(home, found, inner, checked) or {})
        except ServiceError as error:
            self._audit(ctx, service, operation, params, error.code)
            raise
        self._audit(ctx, service, operation, params, "")
        return result

    async def ainside(self, ctx: Context, service: str, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """What a service does for other services only."""
        home = self._find_service(service)
        handler = None if home is None else home.inside.get(action)
        if home is None or handler is None:
            raise ServiceError("NotImplemented", f"{service}:{action} is not built into this cloud yet.", 501)
        try:
            return dict(await handler(ctx.to(service, action), params) or {})
        except PilviError as error:
            raise as_service_error(home, error) from error

    def _audit(self, ctx: Context, service: str, operation: str, params: Mapping[str, Any], error_code: str) -> None:
        if self.audit is not None:
            self.audit.add_inside(ctx, service, operation, params, error_code)

    def _enter(
        self, ctx: Context, service: str, operation: str, params: Mapping[str, Any]
    ) -> tuple[Service, Operation, Context, Mapping[str, Any]]:
        home, found = self.find(service, operation)
        if found.streaming_input and not isinstance(params.get(found.streaming_input), ByteStream):
            params = {**params, found.streaming_input: ByteStream.of(params.get(found.streaming_input))}
        inner = ctx.to(service, found.name)
        found.check(params)
        for access in self.needed(home, found, inner, params):
            if (error := self.check(inner, access)) is not None:
                raise as_service_error(home, error)
        return home, found, inner, params


def not_built(operation: Operation) -> ServiceError:
    return ServiceError(
        "NotImplemented",
        f"{operation.service}:{operation.name} is not built into this cloud yet. 'pilvi coverage' lists what is.",
        501,
    )


def as_service_error(service: Service, error: PilviError) -> ServiceError:
    """A plain error by the service's own code: the most specific row of its table, else the default."""
    if isinstance(error, ServiceError):
        return error
    for kind in type(error).__mro__:
        if kind in service.errors:
            return ServiceError(service.errors[kind], error.message, None, **error.fields)
    for kind, code, status in DEFAULT_CODES:
        if isinstance(error, kind):
            return ServiceError(code, error.message, status, **error.fields)
    return ServiceError("InternalFailure", "The request processing has failed because of an unknown error.", 500)
