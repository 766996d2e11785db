"""Which permission each operation needs: on which queue, with that queue's policy.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon SQS"; developer guide, "Amazon SQS API
permissions" (which also says what no other account can be let do).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.service import Access, Context
from pilvi.services.sqs.move_tasks import source_of
from pilvi.services.sqs.queues import Address, address_of, look

_ACTIONS: Final = {
    "SendMessageBatch": "SendMessage",
    "DeleteMessageBatch": "DeleteMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
}
_OWNERS: Final = frozenset(
    {
        "AddPermission",
        "CancelMessageMoveTask",
        "CreateQueue",
        "DeleteQueue",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "ListQueues",
        "RemovePermission",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    }
)
"""No queue policy lets another account do these."""


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call."""
    action = f"sqs:{_ACTIONS.get(operation, operation)}"
    if operation == "ListQueues":
        return (Access(action, ctx.arn("*")),)
    address = _address(ctx, req)
    found = [on_queue(ctx, action, address, _tags(req), is_owners=operation in _OWNERS)]
    if operation == "CreateQueue" and req.get("tags"):
        found.append(on_queue(ctx, "sqs:TagQueue", address, _tags(req), is_owners=True))
    return found


def on_queue(
    ctx: Context, action: str, address: Address, context: Mapping[str, Any] | None = None, *, is_owners: bool = False
) -> Access:
    """One action on a queue, whether it is there or not."""
    queue = look(ctx.cloud, address.account, address.region, address.name)
    if queue is None:
        # A service that has a name learns that nothing is there; who may not know is told by the policy of what is.
        return Access(action, address.arn, None, address.account, context or {}, granted=ctx.principal.kind == "service")
    facts = {f"aws:ResourceTag/{name}": value for name, value in queue.row["tags"].items()}
    is_stranger = is_owners and ctx.principal.account != queue.account
    return Access(action, queue.arn, None if is_stranger else queue.policy, queue.account, {**facts, **(context or {})})


def _address(ctx: Context, req: Mapping[str, Any]) -> Address:
    if "QueueUrl" in req:
        return address_of(ctx, req["QueueUrl"])
    if "QueueName" in req:
        return Address(req.get("QueueOwnerAWSAccountId") or ctx.account, ctx.region, req["QueueName"])
    arn = req.get("SourceArn") or source_of(req.get("TaskHandle") or "")
    parts = arn.split(":", 5)
    if len(parts) == 6 and parts[2] == "sqs":
        return Address(parts[4], parts[3], parts[5])
    return Address(ctx.account, ctx.region, "*")


def _tags(req: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if tags := req.get("tags") or req.get("Tags"):
        found = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
        found["aws:TagKeys"] = list(tags)
    elif keys := req.get("TagKeys"):
        found["aws:TagKeys"] = list(keys)
    return found
