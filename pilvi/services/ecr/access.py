"""Which permission each ECR operation needs, and on which ARN; the repository's own policy has its say.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon Elastic Container Registry".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.service import Access, Context


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call: itself, and the tags it sets."""
    action = f"ecr:{operation}"
    account = req.get("registryId") or ctx.account
    if operation == "GetAuthorizationToken":
        return (Access(action),)
    if arn := req.get("resourceArn"):
        return (on_repository(ctx, action, ctx.account, str(arn).partition(":repository/")[2], req.get("tags")),)
    names = req.get("repositoryNames") or ([req["repositoryName"]] if req.get("repositoryName") else [])
    found = [on_repository(ctx, action, account, name, req.get("tags")) for name in names]
    if operation == "CreateRepository" and req.get("tags"):
        found.append(on_repository(ctx, "ecr:TagResource", account, names[0], req["tags"]))
    return found or (Access(action, _arn(ctx, account, "*"), resource_account=account),)


def on_repository(ctx: Context, action: str, account: str, name: str, tags: Sequence[Mapping[str, str]] | None = None) -> Access:
    """One action on one repository, with its policy and its tags."""
    record = ctx.records("Repository", account=account).find(name)
    context: dict[str, Any] = {f"aws:RequestTag/{tag['Key']}": tag.get("Value") or "" for tag in tags or ()}
    if tags:
        context["aws:TagKeys"] = [tag["Key"] for tag in tags]
    for key, value in ((record or {}).get("_tags") or {}).items():
        context[f"aws:ResourceTag/{key}"] = context[f"ecr:ResourceTag/{key}"] = value
    policy = json.loads(record["_policy"]) if record is not None and record.get("_policy") else None
    return Access(action, _arn(ctx, account, name), resource_policy=policy, resource_account=account, context=context)


def _arn(ctx: Context, account: str, name: str) -> str:
    base = Arn.parse(ctx.arn("", service="ecr", account=account))
    return str(base._replace(resource=f"repository/{name}")) if base else "*"
