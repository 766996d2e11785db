"""What a service is made of: operations, the service that joins them, and the context they run in.

    ops = Operations()                       one per noun file

    @ops
    def create_work_group(ctx, req): ...     the operation boto3 calls create_work_group

    service = Service("athena", ops, errors={NotFound: "InvalidRequestException"})

An operation is a plain function (run in a thread, may block) or an `async def` (run on the event loop, must never block;
for data planes where a thread would cost more than the work).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pilvi.core.arn import Arn, partition_of
from pilvi.core.errors import PilviError
from pilvi.core.http import Request, Response
from pilvi.core.principal import Principal

if TYPE_CHECKING:
    from pilvi.auth.claim import Claim
    from pilvi.auth.identity import Identities, Identity
    from pilvi.compute import Bind, Compute
    from pilvi.core.clock import Clock
    from pilvi.core.config import Config
    from pilvi.core.ids import Ids
    from pilvi.core.shortcut import ShortWay
    from pilvi.events import Events
    from pilvi.jobs import Jobs
    from pilvi.protocol.route import Match
    from pilvi.schedules import Schedules
    from pilvi.storage.records import Change, Records, Rows
    from pilvi.storage.sealed import AtRest, Keyring

Handler = Callable[..., Any]
"""(ctx, req) -> result mapping or None, or a coroutine function of the same."""


_NOTHING: Mapping[str, Any] = {}


class Access:
    """One permission a call needs: an IAM action on a resource, with what the resource itself says about it. Never changed."""

    __slots__ = ("acl", "action", "also", "context", "granted", "is_gate", "resource", "resource_account", "resource_policy")

    def __init__(
        self,
        action: str,
        resource: str = "*",
        resource_policy: Mapping[str, Any] | None = None,
        resource_account: str = "",
        context: Mapping[str, Any] = _NOTHING,
        granted: bool = False,
        acl: int = 0,
        also: Access | None = None,
        is_gate: bool = False,
    ) -> None:
        self.action = action
        """`s3:GetObject`"""
        self.resource = resource
        self.resource_policy = resource_policy
        """The policy document attached to the resource, if it has one."""
        self.resource_account = resource_account
        """The account that owns the resource; '' is the caller's."""
        self.context = context
        """Further condition keys: {"s3:prefix": "photos/"}."""
        self.granted = granted
        """A grant of the resource (KMS) lets the caller in, wherever no policy denies it."""
        self.acl = acl
        """How closely an access control list of the resource lets the caller in: pilvi.auth.principals.Grant."""
        self.also = also
        """What must be allowed besides: the same action on the access point, or at the VPC endpoint, that the request comes through."""
        self.is_gate = is_gate
        """The policy is a VPC endpoint's: it alone is asked, and must allow."""

    def __repr__(self) -> str:
        return f"Access({self.action!r}, {self.resource!r})"


AccessRule = Callable[["Context", str, Mapping[str, Any]], "Sequence[Access]"]
"""(ctx, operation name as in the model, decoded request) -> what must be allowed. Must not block long: it runs on the loop."""

Site = Callable[..., Awaitable[Response]]
"""(ctx, request) -> response: plain HTTP that is not an AWS API: a deployed REST API's own URLs. The context's principal is
anonymous. Sites that the host names (pilvi.gateway.steps.site) get what it names as a third argument."""

Afterwards = Callable[["Context", Request, Mapping[str, str], Response], Awaitable[None]]
"""(ctx, request, labels of path and host, response): completes the answers to requests with Origin or x-amz-request-payer."""


class Answered(Protocol):
    """A request that was answered, as the gateway holds it (pilvi.gateway.call.Call)."""

    request: Request
    request_id: str
    started: float
    """Seconds since 1970, of the world."""
    claim: Claim | None
    match: Match | None
    identity: Identity | None
    principal: Principal
    region: str
    error_code: str
    result: Any
    response: Response
    params: Mapping[str, Any]
    """Not there when the request was refused before it was understood."""


Witness = Callable[["Cloud", Any], None]
"""(cloud, an Answered) -> None: sees every answered request of its service, on the loop, before the answer's body is sent; so it looks
away at once where nobody wants to know. Once the body has been sent, `response.body.after` is called."""


class Operations:
    """The operation functions of one noun, by their boto3 name."""

    def __init__(self, *, on_loop: bool = False) -> None:
        """on_loop: all of them are `async def`; compiled functions cannot be asked whether they are."""
        self.on_loop = on_loop
        self.handlers: dict[str, Handler] = {}
        self.records_only: set[str] = set()
        self.anywhere_names: set[str] = set()

    def __call__(self, handler: Handler) -> Handler:
        """Declare an operation that does what AWS does."""
        if handler.__name__ in self.handlers:
            raise TypeError(f"two operations are called {handler.__name__}")
        self.handlers[handler.__name__] = handler
        return handler

    def anywhere(self, handler: Handler) -> Handler:
        """Declare an operation that only reads the store and blobs, so any process of the server may perform it."""
        self.anywhere_names.add(handler.__name__)
        return self(handler)

    def recording(self, handler: Handler) -> Handler:
        """Declare an operation that only keeps a record where AWS itself only keeps one."""
        self.records_only.add(handler.__name__)
        return self(handler)


class Service:
    """A whole service, as the gateway sees it."""

    def __init__(
        self,
        name: str,
        *operations: Operations,
        errors: Mapping[type[PilviError], str] | None = None,
        access: AccessRule | None = None,
        sites: Mapping[str, Site] | None = None,
        afterwards: Afterwards | None = None,
        witness: Witness | None = None,
        close: Callable[[Cloud], None] | None = None,
        inside: Mapping[str, Handler] | None = None,
        short_way: ShortWay | None = None,
    ) -> None:
        """name: as botocore names it. errors: plain error -> this service's code. access: which permissions a call needs
        (default: `<iam prefix>:<Operation>` on '*'). sites: raw HTTP by site name (pilvi.protocol.route lists the names).
        close: called when the server stops, to end what the service keeps running there. inside: coroutine functions by the permission
        they need, for other services only (`Context.ainside`); they authorize themselves. short_way: what it knows of plain requests,
        so that they need not take every step of the general way (pilvi.gateway.shortcut).

        A service that has something to go on with after a restart has a module `resume.py` beside this one, with
        `async def resume(cloud)`: called on the event loop, once after a start, when the service has any records.
        """
        self.name = name
        self.handlers: dict[str, Handler] = {}
        self.records_only: set[str] = set()
        self.anywhere: set[str] = set()
        self.is_async: dict[str, bool] = {}
        for ops in operations:
            if twice := self.handlers.keys() & ops.handlers.keys():
                raise TypeError(f"{name}: declared twice: {', '.join(sorted(twice))}")
            self.handlers |= ops.handlers
            self.records_only |= ops.records_only
            self.anywhere |= ops.anywhere_names
            self.is_async |= {name: ops.on_loop or inspect.iscoroutinefunction(handler) for name, handler in ops.handlers.items()}
        self.errors = dict(errors or {})
        self.access = access
        self.sites = dict(sites or {})
        self.afterwards = afterwards
        self.witness = witness
        self.close = close
        self.inside = dict(inside or {})
        self.short_way = short_way


class ClientSide(NamedTuple):
    """What AWS clients inside a program of ours need to find this server, but for credentials."""

    env: Mapping[str, str]
    binds: tuple[Bind, ...]
    """Files that `env` names; to be shown to the program."""


class Cloud(Protocol):
    """What a running server hands to every context: the adapters in use and the way to call other services."""

    config: Config
    clock: Clock
    ids: Ids
    store: Records
    blobs: AtRest
    keyring: Keyring
    compute: Compute
    """This machine: functions, notebooks."""
    job_compute: Compute
    """Where jobs run: this machine too, or a cluster."""
    jobs: Jobs
    schedules: Schedules
    """What runs periodically, on the product's clock."""
    events: Events
    identities: Identities
    endpoint: str
    """Where clients reach this server: http://127.0.0.1:4566"""
    memory: dict[str, Any]
    """Live things a service keeps between calls (warm workers), by service name. Empty after a restart."""

    def rows(self, account: str, region: str, service: str, noun: str) -> Rows: ...

    def call(self, ctx: Context, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]: ...

    async def acall(self, ctx: Context, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]: ...

    async def ainside(self, ctx: Context, service: str, action: str, params: Mapping[str, Any]) -> dict[str, Any]: ...

    def check(self, ctx: Context, access: Access) -> PilviError | None: ...

    def understand(self, service: str, action: str, plain: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """A call that a user wrote down ("sfn", "startExecution", JSON) as `call` takes it: service, operation, parameters.

        NotFound for what AWS does not have, NotImplemented for what is not built here, Invalid for parameters of another kind. Reads
        models, so it is for threads.
        """

    def client_side(self, account: str, region: str) -> ClientSide: ...


CONTEXT_FIELDS = (
    "account",
    "claim",
    "cloud",
    "identity",
    "operation",
    "principal",
    "region",
    "request",
    "request_id",
    "secure",
    "service",
    "source_ip",
    "tls",
    "trace",
    "user_agent",
    "via",
    "vpce",
)


class Context:
    """One call: who makes it, in which account and Region, and the ports it may use."""

    __slots__ = CONTEXT_FIELDS

    def __init__(
        self,
        cloud: Cloud,
        *,
        principal: Principal,
        account: str,
        region: str,
        service: str,
        operation: str = "",
        request_id: str = "",
        source_ip: str = "127.0.0.1",
        identity: Identity | None = None,
        secure: bool = False,
        user_agent: str = "",
        via: str = "",
        claim: Claim | None = None,
        tls: str = "",
        vpce: str = "",
        trace: str = "",
        request: Request | None = None,
    ) -> None:
        self.cloud = cloud
        self.principal = principal
        self.account = account
        self.region = region
        self.service = service
        self.operation = operation
        self.request_id = request_id or cloud.ids.request()
        self.source_ip = source_ip
        self.identity = identity
        """The credentials the call was made with, where there were any: session policies bind through them."""
        self.secure = secure
        self.user_agent = user_agent
        self.via = via
        """The service that makes this call for its caller ("s3"); '' when the call comes from outside."""
        self.claim = claim
        """How the request is signed, for conditions on signatures."""
        self.tls = tls
        """The version of TLS it came with ("1.3"); '' for none."""
        self.vpce = vpce
        """The VPC endpoint it came through (vpce-0123...); '' for none."""
        self.request = request
        """The request behind the call, where one came in: whoever waits long sees there whether its client still does."""
        self.trace = trace
        """The tracing header it came with, by which a chain of events is told: services hand it on with what they pass on."""

    # -- ports ------------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        return self.cloud.clock

    @property
    def ids(self) -> Ids:
        return self.cloud.ids

    @property
    def config(self) -> Config:
        return self.cloud.config

    @property
    def blobs(self) -> AtRest:
        """Sealed: what goes in is encrypted before it reaches the disk."""
        return self.cloud.blobs

    @property
    def keyring(self) -> Keyring:
        """`seal` and `unseal` for secrets kept in records."""
        return self.cloud.keyring

    @property
    def compute(self) -> Compute:
        return self.cloud.compute

    @property
    def jobs(self) -> Jobs:
        return self.cloud.jobs

    def records(self, noun: str, *, account: str | None = None, region: str | None = None, service: str | None = None) -> Rows:
        """The table of a noun, in this call's account and Region unless told otherwise ('' for neither)."""
        return self.cloud.rows(
            self.account if account is None else account,
            self.region if region is None else region,
            self.service if service is None else service,
            noun,
        )

    @property
    def store(self) -> Records:
        """The store itself, for bodies and for transactions submitted from the event loop."""
        return self.cloud.store

    def write(self, *changes: Change) -> None:
        """One durable transaction over several tables. For threads."""
        self.cloud.store.write(*changes)

    # -- names and permissions --------------------------------------------------------------------------------------

    def arn(self, resource: str, *, service: str | None = None, region: str | None = None, account: str | None = None) -> str:
        """The ARN of a resource of this service in this account and Region ('' leaves a part empty)."""
        return str(
            Arn(
                partition_of(self.region),
                self.service if service is None else service,
                self.region if region is None else region,
                self.account if account is None else account,
                resource,
            )
        )

    def authorize(self, access: Access) -> None:
        """Raise the caller's AccessDenied unless this is allowed; for what only the operation itself can know."""
        if (error := self.cloud.check(self, access)) is not None:
            raise error

    def allows(self, access: Access) -> bool:
        return self.cloud.check(self, access) is None

    # -- other services ---------------------------------------------------------------------------------------------

    def call(self, service: str, operation: str, /, **params: Any) -> dict[str, Any]:
        """Call another service as this context's principal: same checks, errors and permissions as from outside. For threads."""
        return self.cloud.call(self, service, operation, params)

    async def acall(self, service: str, operation: str, /, **params: Any) -> dict[str, Any]:
        """The same from the event loop."""
        return await self.cloud.acall(self, service, operation, params)

    async def ainside(self, service: str, action: str, /, **params: Any) -> dict[str, Any]:
        """What a service does for others though no client can ask for it (`events`, `InvokeApiDestination`), as this context's principal."""
        return await self.cloud.ainside(self, service, action, params)

    def as_service(self, name: str, *, source_arn: str = "") -> Context:
        """This context with an AWS service as the caller ("lambda.amazonaws.com"), acting for `source_arn`.

        A service principal may do in its own account what services do there (write logs, use what a resource policy
        grants it); it is the `Principal: {"Service": ...}` of resource and trust policies.
        """
        return self._as(Principal("service", self.account, "", name, name, source_arn=source_arn))

    def as_role(self, role_arn: str, session_name: str) -> Context:
        """This context under a role. Denied when the role is missing or does not trust this context's principal.

        Call it on a service's context: `ctx.as_service("sagemaker.amazonaws.com").as_role(arn, "job")`.
        """
        identity = self.cloud.identities.assume_role(self.principal, role_arn, session_name)
        return self._as(identity.principal, identity)

    def calling_for(self, name: str, *, duration_s: int) -> Context:
        """This context as a service goes on with it for its caller: all that the caller may do, and aws:CalledVia is `name`.

        Its identity can sign (presigned URLs); its secret must not leave the server.
        """
        return self._copy(identity=self.cloud.identities.via_session(self.identity or self.principal, name, duration_s))

    def to(self, service: str, operation: str) -> Context:
        """This caller's context inside another service, which sees through which one the call comes."""
        return self._copy(service=service, operation=operation, via=self.service)

    def at(self, account: str, region: str) -> Context:
        """This caller's context in another account and Region (for resources that an address alone leads to)."""
        return self._copy(account=account, region=region)

    def traced(self, trace: str) -> Context:
        """This context as part of the chain of events that a tracing header names."""
        return self if trace == self.trace else self._copy(trace=trace)

    def _as(self, principal: Principal, identity: Identity | None = None) -> Context:
        return self._copy(principal=principal, account=principal.account, identity=identity)

    def _copy(self, **changed: Any) -> Context:
        kept: dict[str, Any] = {name: getattr(self, name) for name in CONTEXT_FIELDS}
        return Context(**(kept | changed))
