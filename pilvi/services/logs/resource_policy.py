"""Resource policies: which services of AWS may write into an account's log groups. Up to ten, each by its name.

Source: CloudWatch Logs API reference, PutResourcePolicy, DescribeResourcePolicies, DeleteResourcePolicy; user guide, "Enable logging from
AWS services".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.errors import Invalid, LimitExceeded, NotFound, Unsupported
from pilvi.core.service import Context, Operations

ops = Operations()

MOST: Final = 10
MOST_BYTES: Final = 5120
NEEDS_POLICY: Final = frozenset({"events.amazonaws.com"})
"""Services that write only where a policy lets them. The others that write here do so for resources of the account itself."""


@ops
def put_resource_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say which services may write, and where.

    req: policyName, policyDocument (JSON, 5120 bytes).
    Errors: InvalidParameterException - no policy. LimitExceededException - more than ten.
    Differs: policies of single resources (resourceArn) are refused.
    """
    check_scope(req)
    name, text = req.get("policyName"), req.get("policyDocument")
    if not name or not text:
        raise Invalid("policyName and policyDocument must be given.")
    if len(text.encode()) > MOST_BYTES:
        raise Invalid(f"The policy document is longer than {MOST_BYTES} bytes.")
    try:
        parse(text, "resource")
    except MalformedPolicy as error:
        raise Invalid(str(error)) from error
    rows = ctx.records("ResourcePolicy")
    if rows.find(name) is None and len(rows.scan(limit=MOST)) >= MOST:
        raise LimitExceeded("Resource limit exceeded.")
    value = {
        "policyName": name,
        "policyDocument": text,
        "lastUpdatedTime": int(ctx.clock.time_s() * 1000),
        "policyScope": "ACCOUNT",
    }
    rows.put(name, value)
    return {"resourcePolicy": value}


@ops
def describe_resource_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policies by name, up to 50 a page."""
    check_scope(req)
    found, token = ctx.records("ResourcePolicy").page(req.get("nextToken"), req.get("limit") or 50)
    return {"resourcePolicies": found, "nextToken": token}


@ops
def delete_resource_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a policy away.

    Errors: ResourceNotFoundException.
    """
    check_scope(req)
    try:
        ctx.records("ResourcePolicy").delete(req.get("policyName") or "")
    except NotFound:
        raise NotFound(f"Policy with name [{req.get('policyName')}] does not exist.") from None


def check_scope(req: Mapping[str, Any]) -> None:
    if req.get("resourceArn") or req.get("policyScope") == "RESOURCE":
        raise Unsupported("Policies of single log groups are not built into this cloud yet.")


def policy_for(ctx: Context) -> Mapping[str, Any] | None:
    """What all policies say together, where the caller needs to be let in by one."""
    if ctx.principal.name not in NEEDS_POLICY or ctx.principal.kind != "service":
        return None
    statements: list[Any] = []
    for value in ctx.records("ResourcePolicy").all():
        given = json.loads(value["policyDocument"])["Statement"]
        statements += given if isinstance(given, list) else [given]
    return {"Version": "2012-10-17", "Statement": statements}
