"""Condition keys that hold for any request, worked out only when a policy asks for them.

Source: IAM User Guide, "AWS global condition context keys".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pilvi.auth.canonical import seconds_of
from pilvi.auth.claim import FORM
from pilvi.auth.conditions import text_of
from pilvi.auth.pattern import Facts
from pilvi.core.principal import Principal

if TYPE_CHECKING:
    from pilvi.auth.claim import Claim
    from pilvi.auth.identity import Identity

Value = str | list[str]

_TYPES = {
    "root": "Account",
    "user": "User",
    "assumed-role": "AssumedRole",
    "federated-user": "FederatedUser",
    "anonymous": "Anonymous",
}


class Overlay:
    """One set of keys laid over another; keys know no case, values are text."""

    __slots__ = ("_below", "_given", "_owner", "_top")

    def __init__(self, below: Mapping[str, Any] | Facts | None, top: Mapping[str, Any], owner: str = "") -> None:
        """owner: the account the resource belongs to, for aws:ResourceAccount."""
        self._owner = owner
        self._below: Facts | None = Overlay(None, below) if type(below) is dict or isinstance(below, Mapping) else below
        self._given = top
        self._top: dict[str, Value] | None = None

    def get(self, key: str, /) -> Value | None:
        if self._top is None:
            self._top = {name.lower(): as_value(value) for name, value in self._given.items() if value is not None}
        value = self._top.get(key)
        if value is None and self._below is not None:
            value = self._below.get(key)
        if value is None and key == "aws:resourceaccount":
            return self._owner or None
        return value

    def __or__(self, more: Mapping[str, Any]) -> Overlay:
        return Overlay(self, more)


def as_value(value: Any) -> Value:
    """A key's value as policies compare it."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [text_of(item) for item in value]
    return text_of(value)


def stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class GlobalContext:
    """The keys of one request. `get` takes the key in lower case; None: the request has no such key."""

    __slots__ = ("claim", "identity", "now", "principal", "region", "secure", "source_ip", "tls", "user_agent", "vpce")

    def __init__(
        self,
        principal: Principal,
        now: Callable[[], datetime],
        source_ip: str,
        secure: bool,
        region: str,
        user_agent: str,
        identity: Identity | None,
        claim: Claim | None = None,
        tls: str = "",
        vpce: str = "",
    ) -> None:
        self.principal = principal
        self.now = now
        self.source_ip = source_ip
        self.secure = secure
        self.region = region
        self.user_agent = user_agent
        self.identity = identity
        self.claim = claim
        self.tls = tls
        self.vpce = vpce

    def get(self, key: str, /) -> Value | None:
        find = _KEYS.get(key)
        if find is not None:
            return find(self)
        if key.startswith("aws:principaltag/"):
            return self._tag(key[17:])
        return None

    def __or__(self, more: Mapping[str, Any]) -> Overlay:
        return Overlay(self, more)

    def _tag(self, name: str) -> Value | None:
        tags = self._session().get("tags") or {}
        return next((str(value) for tag, value in tags.items() if tag.lower() == name), None)

    def _session(self) -> Mapping[str, Any]:
        return self.identity.session if self.identity is not None else {}


def global_context(
    principal: Principal,
    *,
    now: Callable[[], datetime],
    source_ip: str = "",
    secure: bool = False,
    region: str = "",
    user_agent: str = "",
    identity: Identity | None = None,
    claim: Claim | None = None,
    tls: str = "",
    vpce: str = "",
) -> GlobalContext:
    """The keys that hold for this request whatever it asks for. `identity` adds what the session was made with.

    claim: how the request is signed. tls: the version it came with. vpce: the VPC endpoint it came through.
    """
    return GlobalContext(principal, now, source_ip, secure, region, user_agent, identity, claim, tls, vpce)


def _principal_arn(context: GlobalContext) -> Value | None:
    """For a session the ARN of its role, not of the session."""
    who = context.principal
    return (who.issuer_arn if who.kind == "assumed-role" else "") or who.arn or None


def _username(context: GlobalContext) -> Value | None:
    return context.principal.name if context.principal.kind == "user" else None


def _principal_account(context: GlobalContext) -> Value | None:
    return context.principal.account if context.principal.kind not in ("anonymous", "service") else None


def _source_account(context: GlobalContext) -> Value | None:
    who = context.principal
    if who.kind != "service":
        return None
    parts = who.source_arn.split(":", 5)
    return (parts[4] if len(parts) == 6 and parts[4] else who.account) or None


def _token_issue_time(context: GlobalContext) -> Value | None:
    identity = context.identity
    return stamp(identity.issued) if identity is not None and identity.issued is not None else None


def _is_service(context: GlobalContext) -> bool:
    return context.principal.kind == "service"


def _mfa(context: GlobalContext) -> Value | None:
    """Only temporary credentials say whether a second factor was used; here none is."""
    identity = context.identity
    return "false" if identity is not None and identity.session_token else None


_AUTH_TYPES = {"header": "REST-HEADER", "query": "REST-QUERY-STRING", "v2-header": "REST-HEADER", "v2-query": "REST-QUERY-STRING"}


def _auth_type(context: GlobalContext) -> Value | None:
    """A browser's form has no claim of its own kind; its service says so."""
    claim = context.claim
    if claim is None:
        return None
    return "POST" if claim.service == FORM else _AUTH_TYPES[claim.kind]


def _signature_version(context: GlobalContext) -> Value | None:
    claim = context.claim
    if claim is None:
        return None
    return "AWS" if claim.kind[0] == "v" else "AWS4-HMAC-SHA256"


def _signature_age(context: GlobalContext) -> Value | None:
    """Milliseconds since the signature was made; a Version 2 query does not tell."""
    claim = context.claim
    signed_s = seconds_of(claim.timestamp) if claim is not None and claim.timestamp else None
    return None if signed_s is None else str(max(0, int((context.now().timestamp() - signed_s) * 1000)))


def _called_via(context: GlobalContext) -> Value | None:
    """The services that made this call for its caller, the first one first; here there is never more than one."""
    via = context._session().get("called_via")
    return [via] if via else None


def _called_via_one(context: GlobalContext) -> Value | None:
    via: str | None = context._session().get("called_via")
    return via


def _content_hash(context: GlobalContext) -> Value | None:
    return (context.claim.payload_hash or None) if context.claim is not None else None


def _source_ip(context: GlobalContext) -> Value | None:
    """Not known of what comes through a VPC endpoint: such an address is no public one."""
    return None if context.vpce else context.source_ip or None


_KEYS: dict[str, Callable[[GlobalContext], Value | None]] = {
    "aws:calledvia": _called_via,
    "aws:calledviafirst": _called_via_one,
    "aws:calledvialast": _called_via_one,
    "aws:currenttime": lambda context: stamp(context.now()),
    "aws:epochtime": lambda context: str(int(context.now().timestamp())),
    "aws:multifactorauthpresent": _mfa,
    "aws:principalaccount": _principal_account,
    "aws:principalarn": _principal_arn,
    "aws:principalisawsservice": lambda context: text_of(_is_service(context)),
    "aws:principalservicename": lambda context: context.principal.name if _is_service(context) else None,
    "aws:principaltype": lambda context: _TYPES.get(context.principal.kind),
    "aws:requestedregion": lambda context: context.region or None,
    "aws:securetransport": lambda context: text_of(context.secure),
    "aws:sourceaccount": _source_account,
    "aws:sourcearn": lambda context: context.principal.source_arn or None,
    "aws:sourceidentity": lambda context: context._session().get("source_identity") or None,
    "aws:sourceip": _source_ip,
    "aws:sourcevpce": lambda context: context.vpce or None,
    "aws:vpcsourceip": lambda context: (context.source_ip or None) if context.vpce else None,
    "s3:authtype": _auth_type,
    "s3:signatureage": _signature_age,
    "s3:signatureversion": _signature_version,
    "s3:tlsversion": lambda context: context.tls or None,
    "s3:x-amz-content-sha256": _content_hash,
    "aws:tokenissuetime": _token_issue_time,
    "aws:useragent": lambda context: context.user_agent or None,
    "aws:userid": lambda context: context.principal.user_id or None,
    "aws:username": _username,
    "aws:viaawsservice": lambda context: text_of(_called_via_one(context) is not None),
}
