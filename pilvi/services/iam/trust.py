"""Trust policies: who may take on a role, checked when one is written and asked when a role is assumed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.auth.policy import PolicySet, decide, parse
from pilvi.core.arn import Arn
from pilvi.core.errors import LimitExceeded, ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Access, Context
from pilvi.services.iam.entity import checked_document, size_of
from pilvi.services.iam.tables import worldwide

CHARACTERS = 2048
"""Without white space. Source: IAM User Guide, "IAM and AWS STS quotas", role trust policy length."""

SERVICE_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".aws.internal", ".aws.amazon.com")

_ANYTHING = PolicySet(
    identity=(parse('{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}', "identity"),)
)


def is_trusted(document: str, caller: Principal, action: str, role_arn: str, facts: Any) -> bool:
    """Whether a trust policy by itself lets the caller in, be it by name or by naming his account.

    The question is put as one across accounts, where the resource's own policy must always allow, with a caller whom his own
    policies allow everything: so the trust policy alone decides.
    """
    access = Access(action, role_arn, resource_policy=json.loads(document), resource_account="the role's own")
    return decide(caller, "", _ANYTHING, access, facts).allowed


def check(ctx: Context, document: str) -> None:
    """MalformedPolicyDocument unless this is a trust policy and everybody it names exists."""
    checked_document(document, "trust")
    if size_of(document) > CHARACTERS:
        raise LimitExceeded(f"Cannot exceed quota for ACLSizePerRole: {CHARACTERS}")
    for kind, name in named_principals(json.loads(document)):
        if (kind == "AWS" and not is_known(ctx, name)) or (kind == "Service" and not name.endswith(SERVICE_DOMAINS)):
            shown = "SERVICE" if kind == "Service" else kind
            raise ServiceError("MalformedPolicyDocument", f'Invalid principal in policy: "{shown}":"{name}"')


def named_principals(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    statements = document["Statement"]
    for statement in [statements] if isinstance(statements, dict) else statements:
        for element in (statement.get("Principal"), statement.get("NotPrincipal")):
            if isinstance(element, dict):
                for kind, names in element.items():
                    yield from ((kind, name) for name in ([names] if isinstance(names, str) else names))


def is_known(ctx: Context, name: str) -> bool:
    """Whether an AWS principal exists. Of accounts that are not in this cloud nothing is known, so they pass."""
    parts = Arn.parse(name)
    if parts is None or parts.service != "iam" or worldwide(ctx, "Account").find(parts.account) is None:
        return True
    kind, _, path = parts.resource.partition("/")
    noun = {"user": "User", "role": "Role"}.get(kind)
    if noun is None:
        return True
    row = ctx.records(noun, account=parts.account, region="", service="iam").find(path.rpartition("/")[2].lower())
    return row is not None and row["Arn"] == name
