"""Which permission each operation needs: on which pipe, and on the role that is handed over.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EventBridge Pipes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.service import Access, Context

PRINCIPAL: Final = "pipes.amazonaws.com"


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call."""
    action = f"pipes:{operation}"
    if operation == "ListPipes":
        return (Access(action, ctx.arn("pipe/*")),)
    arn = req.get("resourceArn") or pipe_arn(ctx, req["Name"])
    facts = _facts(ctx, arn.rpartition("/")[2], req)
    found = [Access(action, arn, context=facts)]
    if operation == "CreatePipe" and req.get("Tags"):
        found.append(Access("pipes:TagResource", arn, context=facts))
    if operation in ("CreatePipe", "UpdatePipe"):
        found.append(Access("iam:PassRole", req["RoleArn"], context={"iam:PassedToService": PRINCIPAL}))
    return found


def pipe_arn(ctx: Context, name: str) -> str:
    return ctx.arn(f"pipe/{name}")


def _facts(ctx: Context, name: str, req: Mapping[str, Any]) -> dict[str, Any]:
    """Condition keys on tags: those there are, and those asked for."""
    there = ctx.records("Pipe").find(name)
    found: dict[str, Any] = {f"aws:ResourceTag/{key}": value for key, value in (there["Tags"] if there else {}).items()}
    if tags := req.get("Tags") or req.get("tags"):
        found |= {f"aws:RequestTag/{key}": value for key, value in tags.items()}
        found["aws:TagKeys"] = list(tags)
    elif keys := req.get("tagKeys"):
        found["aws:TagKeys"] = list(keys)
    return found
