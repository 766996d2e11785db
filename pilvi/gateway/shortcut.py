"""The short way: plain requests for objects of S3, from their bytes to the answer's without the general machinery between.

    Plain --take--> verified, permitted --> Answer                      GET and HEAD
                                        --> a coroutine that gives it   PUT and DELETE: the general handler, the answer written from a frame

Nothing is skipped: the signature is computed and compared, the body's hash too, policies are asked (where an account's own root
asks for its own bucket without a policy, what they say is known), bytes are opened and checked, every request is audited. What is
not plain, not certain or not allowed is None, before anything has happened: then the general way decides from the beginning, and words
the error. The same tests pass with and without the short way (decisions/0010-short-way.md).
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from pilvi.auth.canonical import EMPTY_SHA256
from pilvi.auth.claim import UNSIGNED_PAYLOAD, Claim
from pilvi.auth.plain import Scope, is_signed, scope_of
from pilvi.core.errors import PilviError
from pilvi.core.http import Request, Response
from pilvi.core.service import Access, Context
from pilvi.core.shortcut import Card, Place
from pilvi.core.streams import ByteStream
from pilvi.gateway.call import Call
from pilvi.gateway.dispatch import as_service_error
from pilvi.gateway.plain import HEADERS, METHODS, Plain
from pilvi.gateway.steps.reply import internal_failure, refuse
from pilvi.protocol.hosts import HostFacts
from pilvi.protocol.route import Match

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity
    from pilvi.gateway.app import Gateway
    from pilvi.protocol.models import Operation

log = logging.getLogger("pilvi.gateway")

OPERATIONS: Final = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
SMALL_BYTES: Final = 64 << 10
"""Of bodies that are taken here."""
HOSTS: Final = 1000

PUT_MEMBERS: Final = {
    "content-type": "ContentType",
    "content-md5": "ContentMD5",
    "x-amz-sdk-checksum-algorithm": "ChecksumAlgorithm",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-crc32c": "ChecksumCRC32C",
    "x-amz-checksum-crc64nvme": "ChecksumCRC64NVME",
    "x-amz-checksum-sha1": "ChecksumSHA1",
    "x-amz-checksum-sha256": "ChecksumSHA256",
}
"""What the headers of a plain PUT are called in the model."""


class Answer:
    """A whole answer: what stands before its Date's value is the rim's business."""

    __slots__ = ("body", "head", "status")

    def __init__(self, status: int, head: bytes, body: bytes) -> None:
        self.status = status
        self.head = head
        """Header lines, without Date, without the empty line."""
        self.body = body


Taken = Answer | Coroutine[Any, Any, "Answer | Response"]


class Shortcut:
    """The short way of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.is_open = not gateway.may_forward and hasattr(gateway.cloud.store, "peek")
        """Closed where several processes share the work, and in tests of the general way."""
        self.taken = 0
        """How many requests it took, for tests."""
        self._way: Any = None
        self._operations: dict[str, Operation] = {}
        self._hosts: dict[str, str | None] = {}
        self._frames: dict[tuple[str, ...], tuple[str, ...]] = {}

    def take_request(self, request: Request) -> Taken | None:
        """A request that came through the general parser, its body whole."""
        if not self.is_open or request.method not in METHODS or request.query:
            return None
        headers = request.headers
        for name in headers:
            if name not in HEADERS:
                return None
        body = request.body.data
        if body is None or (body and request.method != "PUT"):
            return None
        return self.take(Plain(request.method, request.raw_path, dict(headers), body), request.client)

    def take(self, plain: Plain, client: str) -> Taken | None:
        """The answer, or what will give it; None: the general way is to be taken."""
        try:
            return self._take(plain, client)
        except Exception:
            log.exception("a plain request had to take the general way")
            return None

    def _take(self, plain: Plain, client: str) -> Taken | None:
        headers = plain.headers
        authorization = headers.get("authorization")
        if not self.is_open or authorization is None or (self._way is None and not self._find_way()):
            return None
        claimed = scope_of(authorization)
        if claimed is None:
            return None
        scope, signature = claimed
        named = self._named(headers.get("host", ""), plain.path)
        if named is None:
            return None
        name, key = named
        gateway = self.gateway
        place: Place | None = self._way.place(gateway.cloud, name)
        if place is None or place.region != scope.region:
            return None
        identity = gateway.identities.find(scope.key_id, headers.get("x-amz-security-token", ""))
        if identity is None:
            return None
        started = gateway.clock.real_s()
        if identity.expires is not None and identity.expires.timestamp() <= started:
            return None
        payload = headers.get("x-amz-content-sha256", "")
        if payload != UNSIGNED_PAYLOAD and payload != (sha256(plain.body).hexdigest() if plain.body else EMPTY_SHA256):
            return None
        if not is_signed(scope, signature, plain.method, plain.path, headers, payload, identity.secret, started):
            return None
        visit = Visit(plain, client, place, key, identity, scope, signature, started)
        return self._store(visit) if plain.method in ("PUT", "DELETE") else self._read(visit)

    # -- what is meant ------------------------------------------------------------------------------------------------

    def _find_way(self) -> bool:
        """S3's side of it, once S3 was asked for."""
        service = self.gateway.registry.seen("s3")
        if service is None or service.short_way is None:
            return False
        model = self.gateway.cloud.models.service("s3")
        for name in OPERATIONS.values():
            operation = model.operation(name)
            if operation is None:
                return False
            self._operations[name] = operation
        self._way = service.short_way
        return True

    def _named(self, host: str, path: str) -> tuple[str, str] | None:
        """Bucket and key; None where host or path mean something else, or no key is named."""
        if host in self._hosts:
            bucket = self._hosts[host]
        else:
            bucket = self._bucket_of(host)
            if len(self._hosts) >= HOSTS:
                self._hosts.clear()
            self._hosts[host] = bucket
        if bucket is None:
            return None
        key = path[1:]
        if not bucket:
            bucket, _, key = key.partition("/")
        if not bucket or not key or "%" in bucket:
            return None
        return bucket, unquote(key) if "%" in key else key

    def _bucket_of(self, host: str) -> str | None:
        """The bucket that a host names, '' for none; None where it is another service's, or a special one of S3's."""
        facts: HostFacts = self.gateway.router.facts_of(host.lower())
        if not host or facts.endpoint_prefix not in ("", "s3") or facts.is_accelerated or facts.vpce:
            return None
        return facts.bucket or (facts.leading if facts.is_local else "")

    # -- whether it may be --------------------------------------------------------------------------------------------

    def _is_certain(self, visit: Visit) -> bool:
        """An account's own root, unbound, in its own bucket without a policy: every policy evaluation ends in yes."""
        who = visit.identity.principal
        if visit.place.has_policy or who.kind != "root" or who.account != visit.place.account:
            return False
        policies = self.gateway.identities.policies(visit.identity)
        return policies.boundary is None and policies.session is None

    def _may(self, visit: Visit, ctx: Context, operation: str, params: dict[str, Any]) -> bool:
        """Every permission that the operation needs, decided as on the general way."""
        if self._is_certain(visit):
            return True
        dispatcher = self.gateway.dispatcher
        service = self.gateway.registry.find("s3")
        if service is None or service.access is None:
            return False
        try:
            needed = service.access(ctx, operation, dict(params))
        except PilviError:
            return False
        for access in needed:  # noqa: SIM110 - compiled, a generator costs more
            if dispatcher.check(ctx, access) is not None:
                return False
        return True

    def _context(self, visit: Visit, operation: str, request_id: str) -> Context:
        plain, identity, scope = visit.plain, visit.identity, visit.scope
        headers = plain.headers
        claim = Claim(
            "header",
            scope.key_id,
            visit.signature,
            scope.date,
            scope.region,
            "s3",
            scope.names,
            headers.get("x-amz-date", ""),
            headers.get("x-amz-security-token", ""),
            None,
            headers.get("x-amz-content-sha256", ""),
            "",
        )
        return Context(
            self.gateway.cloud,
            principal=identity.principal,
            account=identity.principal.account,
            region=scope.region,
            service="s3",
            operation=operation,
            request_id=request_id,
            source_ip=visit.client,
            identity=identity,
            user_agent=headers.get("user-agent", ""),
            claim=claim,
        )

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, visit: Visit) -> Answer | None:
        plain, place, key = visit.plain, visit.place, visit.key
        method = plain.method
        operation = "GetObject" if method == "GET" else "HeadObject"
        cloud = self.gateway.cloud
        card: Card | None = self._way.known(cloud, place, key)
        request_id = cloud.ids.request()
        if card is None or not self._is_certain(visit):
            ctx = self._context(visit, operation, request_id)
            if card is None:
                card = self._way.card(ctx, place, key)
            if card is None or not self._may(visit, ctx, operation, {"Bucket": place.bucket.name, "Key": key}):
                return None
        start, end, status = 0, card.size, 200
        wanted = plain.headers.get("range")
        if wanted is not None:
            span = self._way.span(card, wanted)
            if span is None:
                return None
            start, end = span
            status = 206
        body: bytes | None = b""
        if method == "GET":
            body = self._way.read(cloud, card, start, end)
            if body is None:
                return None
        if wanted is None and "x-amz-checksum-mode" in plain.headers:
            lines = card.lines_with_sums or self._rendered(card, operation, with_sums=True)
            head = f"{ids_of(request_id)}Content-Length: {end}\r\n"
        else:
            lines = card.lines or self._rendered(card, operation, with_sums=False)
            place_in = f"Content-Range: bytes {start}-{end - 1}/{card.size}\r\n" if wanted is not None else ""
            head = f"{ids_of(request_id)}{place_in}Content-Length: {end - start}\r\n"
        self._note(visit, operation, request_id)
        assert body is not None
        return Answer(status, head.encode() + lines, body)

    def _rendered(self, card: Card, operation: str, *, with_sums: bool) -> bytes:
        """What a card says, in the words of the general encoder, kept with it."""
        members = {**card.answer, **card.sums} if with_sums else dict(card.answer)
        response = self._operations[operation].encode(members, protocol="rest-xml", request_id="", request=_NO_REQUEST)
        pairs = response.headers[2:]  # behind the two that name the request
        text = "".join([f"{name}: {value}\r\n" for name, value in pairs])
        if text.count("\n") != len(pairs) or text.count("\r") != len(pairs):
            raise ValueError("a response header holds a line break")
        lines = text.encode("latin-1", "replace")
        if with_sums:
            card.lines_with_sums = lines
        else:
            card.lines = lines
        return lines

    def _note(self, visit: Visit, operation: str, request_id: str) -> None:
        self.taken += 1
        agent = visit.plain.headers.get("user-agent", "")
        arn = f"{visit.place.arn}/{visit.key}"
        who = visit.identity.principal
        self.gateway.audit.note(visit.started, "s3", operation, visit.scope.region, visit.client, agent, who, request_id, arn)

    # -- writing ------------------------------------------------------------------------------------------------------

    def _store(self, visit: Visit) -> Coroutine[Any, Any, Answer | Response] | None:
        plain, place = visit.plain, visit.place
        operation = "PutObject" if plain.method == "PUT" else "DeleteObject"
        params: dict[str, Any] = {"Bucket": place.bucket.name, "Key": visit.key}
        if plain.method == "PUT":
            if len(plain.body) > SMALL_BYTES:
                return None
            for header, value in plain.headers.items():
                member = PUT_MEMBERS.get(header)
                if member is not None:
                    params[member] = value
            params["Body"] = ByteStream(plain.body)
        ctx = self._context(visit, operation, self.gateway.cloud.ids.request())
        return self._carried_out(visit, ctx, operation, params) if self._may(visit, ctx, operation, params) else None

    async def _carried_out(self, visit: Visit, ctx: Context, operation: str, params: dict[str, Any]) -> Answer | Response:
        service = self.gateway.registry.find("s3")
        assert service is not None
        try:
            result = await service.handlers[self._operations[operation].function](ctx, params)
        except PilviError as error:
            failure: PilviError = as_service_error(service, error)
        except Exception:
            log.exception("request %s failed", ctx.request_id)
            failure = internal_failure()
        else:
            answer = self._answered(result or {}, operation, ctx.request_id)
            self._note(visit, operation, ctx.request_id)
            return answer
        return self._refused(visit, ctx, operation, failure)

    def _answered(self, result: Mapping[str, Any], operation: str, request_id: str) -> Answer | Response:
        """The answer without a body that puts and deletions have, written from a frame while all members are text."""
        status = 200 if operation == "PutObject" else 204
        members = (operation, *result)
        names = self._frames.get(members)
        if names is None:
            response = self._operations[operation].encode(result, protocol="rest-xml", request_id=request_id, request=_NO_REQUEST)
            names = () if response.status != status or response.body else names_in(response, result)
            if len(self._frames) < HOSTS:
                self._frames[members] = names
        if len(names) != len(result):
            return self._operations[operation].encode(result, protocol="rest-xml", request_id=request_id, request=_NO_REQUEST)
        parts = [ids_of(request_id)]
        for name, value in zip(names, result.values(), strict=True):
            if type(value) is not str or not value.isascii() or not value.isprintable():
                return self._operations[operation].encode(result, protocol="rest-xml", request_id=request_id, request=_NO_REQUEST)
            parts.append(f"{name}: {value}\r\n")
        if status == 200:
            parts.append("Content-Length: 0\r\n")
        return Answer(status, "".join(parts).encode(), b"")

    def _refused(self, visit: Visit, ctx: Context, operation: str, error: PilviError) -> Response:
        """An error that the handler found, as the general way tells and audits it."""
        plain, place = visit.plain, visit.place
        request = Request(plain.method, plain.path, "", plain.headers, ByteStream(plain.body), client=visit.client)
        call = Call(request, ctx.request_id, visit.started)
        labels = {"Bucket": place.bucket.name, "Key": visit.key}
        call.match = Match("s3", "rest-xml", self._operations[operation], labels)
        call.region = visit.scope.region
        call.identity, call.principal, call.claim, call.context = visit.identity, visit.identity.principal, ctx.claim, ctx
        call.access = (Access(f"s3:{operation}", f"{place.arn}/{visit.key}"),)
        refuse(self.gateway, call, error)
        self.taken += 1
        self.gateway.audit.add(call)
        return call.response


class Visit:
    """A request whose signature was found to be its caller's."""

    __slots__ = ("client", "identity", "key", "place", "plain", "scope", "signature", "started")

    def __init__(
        self,
        plain: Plain,
        client: str,
        place: Place,
        key: str,
        identity: Identity,
        scope: Scope,
        signature: str,
        started: float,
    ) -> None:
        self.plain = plain
        self.client = client
        self.place = place
        self.key = key
        self.identity = identity
        self.scope = scope
        self.signature = signature
        self.started = started


_NO_REQUEST: Final = Request("GET", "/", "", {})


def ids_of(request_id: str) -> str:
    """The two header lines that name a request and its host (pilvi.protocol.quirks.s3_headers)."""
    return f"x-amz-request-id: {request_id}\r\nx-amz-id-2: cGlsdmk{request_id.replace('-', '')}\r\n"


def names_in(response: Response, result: Mapping[str, Any]) -> tuple[str, ...]:
    """The header of each member, where each member became one header as it stands."""
    pairs = response.headers[2:]
    if [value for _, value in pairs] != list(result.values()):
        return ()
    return tuple(name for name, _ in pairs)
