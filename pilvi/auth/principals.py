"""The Principal element: whom a statement of a resource or trust policy speaks of, and how closely.

Closeness matters: naming an account only lets that account's own policies decide; naming a role still leaves the session's
boundary and session policies in force; naming the user or the session itself decides by itself.

Source: IAM User Guide, "AWS JSON policy elements: Principal" and "NotPrincipal".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pilvi.core.principal import Principal


class Grant(IntEnum):
    NOBODY = 0
    ACCOUNT = 1
    """The caller's account is named: its own policies decide."""
    EVERYBODY = 2
    """Everybody is named, or the role behind a session."""
    PERSONALLY = 3
    """The very user, session or service is named."""


NOBODY, ACCOUNT, EVERYBODY, PERSONALLY = (int(grant) for grant in Grant)

PrincipalTest = Callable[[Principal, str, bool], int]
"""(caller, owner of the resource, whether the statement allows) -> closeness, NOBODY when it does not speak of the caller."""


def compile_principal(statement: Mapping[str, Any]) -> PrincipalTest | None:
    """The test of a statement's Principal or NotPrincipal; None when it has neither."""
    if "Principal" in statement:
        return _Names(statement["Principal"]).closeness
    if "NotPrincipal" in statement:
        return _excluding(_Names(statement["NotPrincipal"]))
    return None


class _Names:
    """Whom an element names, by kind."""

    __slots__ = ("accounts", "anyone", "canonical", "federated", "names", "services")

    def __init__(self, element: str | Mapping[str, Any]) -> None:
        listed: Mapping[str, Any] = {"AWS": element} if isinstance(element, str) else element
        aws = set(_texts(listed.get("AWS", ()))) | set(_texts(listed.get("*", ())))
        self.anyone = "*" in aws
        self.accounts = frozenset(account for text in aws if (account := _account_of(text)))
        self.names = frozenset(aws)
        self.services = frozenset(text.lower() for text in _texts(listed.get("Service", ())))
        self.federated = frozenset(_texts(listed.get("Federated", ())))
        self.canonical = frozenset(_texts(listed.get("CanonicalUser", ())))

    def closeness(self, caller: Principal, _owner: str, _allows: bool) -> int:
        kind = caller.kind
        if kind == "service":
            return PERSONALLY if self.anyone or caller.name.lower() in self.services or "*" in self.services else NOBODY
        if kind != "anonymous":
            if self.names and (caller.arn in self.names or caller.user_id in self.names):
                return PERSONALLY
            if kind == "federated-user" and self.federated and caller.issuer_arn in self.federated:
                return PERSONALLY
            if caller.issuer_arn and (caller.issuer_arn in self.names or caller.user_id.partition(":")[0] in self.names):
                return EVERYBODY
        if self.canonical and kind != "anonymous" and canonical_id(caller.account) in self.canonical:
            return ACCOUNT
        if self.anyone:
            # A session stays within its boundary and session policies; users are let in by themselves.
            return EVERYBODY if kind in ("assumed-role", "federated-user") else PERSONALLY
        return ACCOUNT if caller.account in self.accounts else NOBODY


@lru_cache(1024)
def canonical_id(account: str) -> str:
    """The canonical user id of an account: 64 hexadecimal digits that always stand for it."""
    return sha256(f"canonical user {account}".encode()).hexdigest() if account != "anonymous" else ANONYMOUS_ID


ANONYMOUS_ID = "65a011a29cdf8ec533ec3d1ccaae921c"
"""Who owns what nobody signed for. Source: S3 User Guide, "How Amazon S3 authorizes a request"."""


def _excluding(names: _Names) -> PrincipalTest:
    """Everybody but those named. A Deny spares a session only when session (or role) and account are all named."""

    def closeness(caller: Principal, owner: str, allows: bool) -> int:
        found = names.closeness(caller, owner, allows)
        if allows:
            return NOBODY if found > NOBODY else EVERYBODY
        return NOBODY if found > ACCOUNT or (found and caller.kind == "root") else PERSONALLY

    return closeness


def _account_of(text: str) -> str:
    """The account an AWS principal stands for as a whole: `123456789012` or `arn:aws:iam::123456789012:root`."""
    if len(text) == 12 and text.isdigit():
        return text
    parts = text.split(":")
    return parts[4] if len(parts) == 6 and parts[0] == "arn" and parts[2] == "iam" and parts[5] == "root" else ""


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
