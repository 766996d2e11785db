"""Key policies: who may use and manage a key. Nobody may, not even the account's root, whom the policy does not let in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pilvi.auth.policy import MalformedPolicy, PolicySet, decide, global_context, parse
from pilvi.core.arn import partition_of
from pilvi.core.service import Access, Context, Operations
from pilvi.services.kms.errors import limit_exceeded, malformed_policy, no_key, unsupported
from pilvi.services.kms.keys import change, find
from pilvi.services.kms.listing import page_of

ops = Operations()

ONLY_NAME: Final = "default"
MOST_BYTES: Final = 32768
_EVERYTHING: Final = PolicySet(
    (parse({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}, "identity"),)
)


@ops
def put_key_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replace a key's policy; it counts from the next call on.

    req: Policy (JSON, at most 32 KiB), PolicyName ("default"), BypassPolicyLockoutSafetyCheck.
    Errors: NotFoundException. MalformedPolicyDocumentException - no policy, or one by which the caller could never change it again.
    LimitExceededException - too long. KMSInvalidStateException. UnsupportedOperationException.
    """
    _check_name(req)
    key = find(ctx, req["KeyId"], aliases=False)
    policy = read_policy(ctx, key.arn, req["Policy"], bypass=bool(req.get("BypassPolicyLockoutSafetyCheck")))
    change(ctx, req["KeyId"], lambda row: row | {"_policy": policy})


@ops
def get_key_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was set.

    Errors: NotFoundException - key or policy name.
    """
    key = find(ctx, req["KeyId"], aliases=False)
    if (req.get("PolicyName") or ONLY_NAME) != ONLY_NAME:
        raise no_key(f"{key.arn}/policy/{req['PolicyName']}")
    return {"Policy": key.row["_policy"], "PolicyName": ONLY_NAME}


@ops
def list_key_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The names of a key's policies: there is one.

    Errors: NotFoundException.
    """
    find(ctx, req["KeyId"], aliases=False)
    names, more = page_of([ONLY_NAME], req, default=100)
    return {"PolicyNames": names, **more}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def default_policy(account: str, region: str) -> str:
    """The policy of keys made without one: the account, so that its IAM policies decide."""
    document = {
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [
            {
                "Sid": "Enable IAM User Permissions",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition_of(region)}:iam::{account}:root"},
                "Action": "kms:*",
                "Resource": "*",
            }
        ],
    }
    return json.dumps(document, indent=2, separators=(",", " : "))


def read_policy(ctx: Context, arn: str, text: str, *, bypass: bool) -> str:
    """A policy's text, when it is one and leaves the caller a way to change it. MalformedPolicyDocumentException otherwise."""
    if len(text.encode()) > MOST_BYTES:
        raise limit_exceeded(f"The size of policy exceeds the limit of {MOST_BYTES} bytes.")
    try:
        parse(text, "resource")
    except MalformedPolicy as error:
        raise malformed_policy(error.message) from None
    document = json.loads(text)
    _check_principals(ctx, document)
    if not bypass and not _may_put(ctx, arn, document):
        raise malformed_policy("The new key policy will not allow you to update the key policy in the future.")
    return text


def _may_put(ctx: Context, arn: str, document: Mapping[str, Any]) -> bool:
    """Whether the policy would let this caller in for PutKeyPolicy; what IAM says may change any day."""
    access = Access("kms:PutKeyPolicy", arn, document, ctx.account, {"kms:CallerAccount": ctx.principal.account})
    facts = global_context(ctx.principal, now=ctx.clock.now, source_ip=ctx.source_ip, secure=ctx.secure, region=ctx.region)
    return decide(ctx.principal, ctx.account, _EVERYTHING, access, facts).allowed


def _check_principals(ctx: Context, document: Mapping[str, Any]) -> None:
    """Users and roles that are named must be there."""
    statements = document["Statement"]
    for statement in statements if isinstance(statements, list) else [statements]:
        element = statement.get("Principal")
        named = element.get("AWS", ()) if isinstance(element, Mapping) else ()
        for text in [named] if isinstance(named, str) else named:
            if not _exists(ctx, text):
                raise malformed_policy("Policy contains a statement with one or more invalid principals.")


def _exists(ctx: Context, text: str) -> bool:
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[2] != "iam":
        return True
    kind, _, path = parts[5].partition("/")
    noun = {"role": "Role", "user": "User"}.get(kind)
    if noun is None:
        return True
    return ctx.records(noun, account=parts[4], region="", service="iam").find(path.rsplit("/", 1)[-1].lower()) is not None


def _check_name(req: Mapping[str, Any]) -> None:
    if (req.get("PolicyName") or ONLY_NAME) != ONLY_NAME:
        raise unsupported(f"The only valid policy name is {ONLY_NAME}.")
