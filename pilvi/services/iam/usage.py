"""Where managed policies are used: the Attachment rows and the counts that customers' policies carry.

Every change of an entity's `_attached` or `_boundary` comes with the changes made here, in the same transaction. They touch
the policy's own row, so a policy cannot be deleted while somebody attaches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pilvi.core.arn import Arn
from pilvi.core.errors import NotFound
from pilvi.core.service import Context
from pilvi.services.iam import managed
from pilvi.services.iam.tables import entities
from pilvi.storage.records import Change, Row

Usage = Literal["policy", "boundary"]
COUNTS: Mapping[Usage, str] = {"policy": "AttachmentCount", "boundary": "PermissionsBoundaryUsageCount"}


def find_policy_row(ctx: Context, arn: str) -> Row | None:
    """A customer's policy in the caller's account."""
    row = entities(ctx, "Policy").row(arn.rpartition("/")[2].lower())
    return row if row is not None and row.value["Arn"] == arn else None


def exists(ctx: Context, arn: str) -> bool:
    return managed.find(arn) is not None or find_policy_row(ctx, arn) is not None


def attachment_id(arn: str, usage: Usage, noun: str, name: str) -> str:
    return f"{arn}\t{usage}\t{noun}\t{name.lower()}"


def added(ctx: Context, arn: str, usage: Usage, noun: str, entity: Mapping[str, Any]) -> list[Change]:
    """A policy comes into use. NotFound when there is no such policy."""
    row = find_policy_row(ctx, arn)
    if row is None and managed.find(arn) is None:
        raise NotFound(missing(arn, usage))
    name = entity[noun + "Name"]
    attachment = {"Name": name, "Id": entity[noun + "Id"], "Path": entity["Path"]}
    return [
        entities(ctx, "Attachment").replacement(attachment_id(arn, usage, noun, name), attachment),
        *counted(ctx, row, usage, 1),
    ]


def removed(ctx: Context, arn: str, usage: Usage, noun: str, entity: Mapping[str, Any]) -> list[Change]:
    """A policy goes out of use."""
    id = attachment_id(arn, usage, noun, entity[noun + "Name"])
    return [entities(ctx, "Attachment").deletion(id), *counted(ctx, find_policy_row(ctx, arn), usage, -1)]


def counted(ctx: Context, row: Row | None, usage: Usage, step: int) -> list[Change]:
    if row is None:  # AWS's own policies are counted when asked
        return []
    count = COUNTS[usage]
    return [entities(ctx, "Policy").revision(row.id, {**row.value, count: row.value[count] + step}, row.version)]


def boundary_changes(ctx: Context, noun: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What an entity's changed boundary, or its coming and going, means for the policies."""
    old, new = before.get("_boundary"), after.get("_boundary")
    if old == new:
        return []
    changes: list[Change] = removed(ctx, old, "boundary", noun, before) if old else []
    return changes + (added(ctx, new, "boundary", noun, after) if new else [])


def renames(ctx: Context, noun: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The Attachment rows of an entity under its new name; counts stay."""
    attachments = entities(ctx, "Attachment")
    changes: list[Change] = []
    used: list[tuple[str, Usage]] = [(arn, "policy") for arn in before["_attached"]]
    if before.get("_boundary"):
        used.append((before["_boundary"], "boundary"))
    for arn, usage in used:
        moved = {"Name": after[noun + "Name"], "Id": after[noun + "Id"], "Path": after["Path"]}
        changes.append(attachments.deletion(attachment_id(arn, usage, noun, before[noun + "Name"])))
        changes.append(attachments.insertion(attachment_id(arn, usage, noun, after[noun + "Name"]), moved))
    return changes


def count(ctx: Context, arn: str, usage: Usage) -> int:
    """How many entities of the account use one of AWS's policies."""
    total, after = 0, ""
    while rows := entities(ctx, "Attachment").scan(prefix=f"{arn}\t{usage}\t", after=after):
        total, after = total + len(rows), rows[-1].id
    return total


def missing(arn: str, usage: Usage) -> str:
    if Arn.parse(arn) is None:
        return f"ARN {arn} is not valid."
    if usage == "boundary":
        return f"Scope ARN: {arn} does not exist or is not attachable."
    return f"Policy {arn} does not exist or is not attachable."
