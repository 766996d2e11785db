"""Which permissions each operation of S3 Control needs. A noun that needs more than a name adds its row to RULES.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pilvi.core.service import Access, Context
from pilvi.services.s3control.errors import access_denied
from pilvi.storage.records import Table

Rule = Callable[[Context, Mapping[str, Any]], Sequence[Access]]

ACCOUNT_ACTIONS = {
    "GetPublicAccessBlock": "s3:GetAccountPublicAccessBlock",
    "PutPublicAccessBlock": "s3:PutAccountPublicAccessBlock",
    "DeletePublicAccessBlock": "s3:PutAccountPublicAccessBlock",
}
"""On the whole account ("*"); operations not named here are asked as `s3:<Operation>`."""

RULES: dict[str, Rule] = {}

VPC_ENDPOINTS = Table("", "", "s3bucket", "VpcEndpoint")
"""EC2 writes them."""


def access(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """What must be allowed before an operation runs.

    Errors: AccessDenied - another account than the caller's is named.
    """
    if req.get("AccountId", ctx.account) != ctx.account:
        raise access_denied()
    rule = RULES.get(operation)
    needed = rule(ctx, req) if rule is not None else (Access(ACCOUNT_ACTIONS.get(operation, f"s3:{operation}")),)
    return through_gate(ctx, needed) if ctx.vpce else needed


def through_gate(ctx: Context, needed: Sequence[Access]) -> Sequence[Access]:
    """The same, and what the policy of the VPC endpoint must allow. AccessDenied when there is no such endpoint."""
    row = ctx.store.get(VPC_ENDPOINTS, ctx.vpce)
    if row is None:
        raise access_denied()
    policy = row.value.get("_policy")
    if policy is None:
        return needed
    gates = [Access(access.action, access.resource, policy, ctx.account, access.context, is_gate=True) for access in needed]
    return (*needed, *gates)
