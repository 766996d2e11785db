"""What users, groups and roles have in common: how they are found, named, shown and tagged, and what their errors say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pilvi.auth.policy import MalformedPolicy, PolicyKind, parse
from pilvi.core.errors import Invalid, LimitExceeded, NotFound, ServiceError
from pilvi.core.service import Context
from pilvi.services.iam.tables import entities
from pilvi.storage.records import Row

SERVICE_ROLE_PATH = "/aws-service-role/"
TAGS_PER_RESOURCE = 50
"""Source: IAM User Guide, "IAM and AWS STS quotas"."""


def find(ctx: Context, noun: str, name: str) -> Row:
    """The row of a User, Group or Role by name, in whatever case it is written."""
    row = entities(ctx, noun).row(name.lower())
    if row is None:
        raise NotFound(f"The {noun.lower()} with name {name} cannot be found.")
    return row


def find_changeable(ctx: Context, noun: str, name: str) -> Row:
    """The same, for a change: roles that belong to AWS services are refused."""
    row = find(ctx, noun, name)
    if noun == "Role" and row.value["Path"].startswith(SERVICE_ROLE_PATH):
        raise ServiceError(
            "UnmodifiableEntity",
            f"Cannot perform the operation on the protected role '{row.value['RoleName']}' - this role is only modifiable by AWS",
        )
    return row


def now(ctx: Context) -> datetime:
    """This second: IAM's dates have no fractions."""
    return ctx.clock.now().replace(microsecond=0)


def arn_of(account: str, kind: str, path: str, name: str) -> str:
    """arn:aws:iam::A:user/path/name"""
    return f"arn:aws:iam::{account}:{kind}{path}{name}"


def encoded(document: str) -> str:
    """A policy document as IAM answers it: percent-encoded by RFC 3986."""
    return quote(document, safe="-_.~")


def boundary_shown(entity: Mapping[str, Any]) -> dict[str, str] | None:
    arn = entity.get("_boundary")
    return {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn} if arn else None


def checked_document(document: str, kind: PolicyKind = "identity") -> str:
    """A policy document that can be evaluated, unchanged; MalformedPolicyDocument otherwise."""
    try:
        parse(document, kind)
    except MalformedPolicy as error:
        raise ServiceError("MalformedPolicyDocument", str(error)) from error
    if any(len(action.split()) > 1 for action in actions_of(json.loads(document))):
        raise ServiceError("MalformedPolicyDocument", "Syntax errors in policy.")  # "iam: GetUser", refused by AWS
    return document


def actions_of(document: Mapping[str, Any]) -> Iterator[str]:
    statements = document["Statement"]
    for statement in [statements] if isinstance(statements, dict) else statements:
        actions: str | list[str] = statement.get("Action") or statement.get("NotAction") or []
        yield from [actions] if isinstance(actions, str) else actions


def size_of(document: str) -> int:
    """Characters that count against a quota: white space does not."""
    return len("".join(document.split()))


# -- tags ---------------------------------------------------------------------------------------------------------------


def tagged(existing: Sequence[Mapping[str, str]], added: Iterable[Mapping[str, str]], noun: str) -> list[dict[str, str]]:
    """The tags after adding some. Keys differ without regard to case; the last written spelling stays."""
    added = list(added)
    if len({tag["Key"].lower() for tag in added}) < len(added):
        raise ServiceError("InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(tag["Key"].lower().startswith("aws:") for tag in added):
        raise ServiceError("InvalidInput", "aws: prefixed tag key names are not allowed for external use.")
    merged = {tag["Key"].lower(): dict(tag) for tag in existing}
    merged |= {tag["Key"].lower(): {"Key": tag["Key"], "Value": tag["Value"]} for tag in added}
    if len(merged) > TAGS_PER_RESOURCE:
        raise LimitExceeded(f"Cannot exceed quota for TagsPer{noun}: {TAGS_PER_RESOURCE}")
    return list(merged.values())


def untagged(existing: Sequence[Mapping[str, str]], keys: Iterable[str]) -> list[dict[str, str]]:
    gone = {key.lower() for key in keys}
    return [dict(tag) for tag in existing if tag["Key"].lower() not in gone]


def tags_by_key(entity: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    return {tag["Key"]: tag for tag in entity.get("Tags", ())}


# -- who is meant when no name is given ---------------------------------------------------------------------------------


def user_meant(ctx: Context, req: Mapping[str, Any]) -> str:
    """The named user, else the calling one; '' is the root user of the account."""
    if name := req.get("UserName"):
        return str(name)
    if ctx.principal.kind == "root":
        return ""
    if ctx.principal.kind != "user":
        raise Invalid("Must specify userName when calling with non-User credentials")
    return ctx.principal.name
