"""Which permission each ECR Public operation needs, and on which ARN.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon Elastic Container Registry Public".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.arn import Arn, partition_of
from pilvi.core.service import Access, Context

REGION = "us-east-1"
"""Public repositories are kept, and the API is spoken, there only. Source: ECR Public User Guide, "Service quotas and endpoints"."""


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call."""
    action = f"ecr-public:{operation}"
    if operation == "GetAuthorizationToken":
        return (Access(action), Access("sts:GetServiceBearerToken"))
    if arn := req.get("resourceArn"):
        return (on_repository(ctx, action, str(arn).partition(":repository/")[2]),)
    names = req.get("repositoryNames") or ([req["repositoryName"]] if req.get("repositoryName") else [])
    return [on_repository(ctx, action, name) for name in names] or (Access(action),)


def on_repository(ctx: Context, action: str, name: str) -> Access:
    record = ctx.records("Repository", region=REGION).find(name)
    policy = json.loads(record["_policy"]) if record is not None and record.get("_policy") else None
    return Access(action, repository_arn(ctx, name), resource_policy=policy, resource_account=ctx.account)


def repository_arn(ctx: Context, name: str) -> str:
    return str(Arn(partition_of(ctx.region), "ecr-public", "", ctx.account, f"repository/{name}"))
