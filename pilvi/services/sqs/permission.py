"""Permissions by label: statements of a queue's policy, added and removed one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.arn import partition_of
from pilvi.core.service import Context, Operations
from pilvi.services.sqs.attributes import POLICY_BYTES
from pilvi.services.sqs.errors import bad_value, invalid, missing, over_limit
from pilvi.services.sqs.queue import revise
from pilvi.services.sqs.queues import find

ops = Operations(on_loop=True)

ACTIONS: Final = frozenset(
    {
        "*",
        "SendMessage",
        "ReceiveMessage",
        "DeleteMessage",
        "ChangeMessageVisibility",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "PurgeQueue",
    }
)
"""What another account may be let do. Source: SQS developer guide, "Amazon SQS API permissions"."""
MOST_ACTIONS: Final = 7
MOST_STATEMENTS: Final = 20
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
_ACCOUNT = re.compile(r"\d{12}\Z")


@ops
async def add_permission(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let other accounts do something with a queue.

    req: Label (1-80 of [A-Za-z0-9_-]), AWSAccountIds, Actions (up to 7, or *).
    Errors: QueueDoesNotExist. InvalidParameterValue - label taken, no such action or account. OverLimit - more than 7 actions, 20
    statements or 8 KiB. MissingParameter.
    """
    queue = find(ctx, req["QueueUrl"])
    label, accounts, actions = req["Label"], req["AWSAccountIds"], req["Actions"]
    if not _LABEL.match(label):
        raise bad_value(label, "Label", "Must consist of 1 to 80 alphanumeric characters, hyphens and underscores.")
    if not accounts:
        raise missing("PrincipalId")
    if not actions:
        raise missing("Actions")
    for action in actions:
        if action not in ACTIONS:
            raise bad_value(
                f"SQS:{action}",
                "ActionName",
                f"Only the queue owner is allowed to invoke this action; valid are {', '.join(sorted(ACTIONS))}.",
            )
    if len(actions) > MOST_ACTIONS:
        raise over_limit(f"{len(actions)} Actions were found, maximum allowed is {MOST_ACTIONS}.")
    for account in accounts:
        if not _ACCOUNT.match(account):
            raise bad_value(account, "PrincipalId", "Unable to verify.")
    principals = [f"arn:{partition_of(ctx.region)}:iam::{account}:root" for account in accounts]
    statement = {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": _one_or_all(principals)},
        "Action": _one_or_all([f"SQS:{action}" for action in actions]),
        "Resource": queue.arn,
    }

    def change(value: dict[str, Any]) -> None:
        policy = _policy_of(value, queue.arn)
        statements = _statements(policy)
        if any(one.get("Sid") == label for one in statements):
            raise bad_value(label, "Label", "Already exists.")
        if len(statements) >= MOST_STATEMENTS:
            raise over_limit(f"The policy may have {MOST_STATEMENTS} statements at most.")
        policy["Statement"] = [*statements, statement]
        text = json.dumps(policy, separators=(",", ":"))
        if len(text) > POLICY_BYTES:
            raise over_limit(f"The policy may have {POLICY_BYTES} bytes at most.")
        value["attributes"]["Policy"] = text
        value["modified"] = int(ctx.clock.time_s())

    await revise(ctx, queue, change)


@ops
async def remove_permission(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a permission away by its label. Errors: QueueDoesNotExist. InvalidParameterValue - no such label."""
    queue = find(ctx, req["QueueUrl"])
    label = req["Label"]

    def change(value: dict[str, Any]) -> None:
        policy = _policy_of(value, queue.arn)
        statements = _statements(policy)
        rest = [one for one in statements if one.get("Sid") != label]
        if len(rest) == len(statements):
            raise invalid(f"Value {label} for parameter Label is invalid. Reason: can't find label on existing policy.")
        if rest:
            value["attributes"]["Policy"] = json.dumps({**policy, "Statement": rest}, separators=(",", ":"))
        else:
            value["attributes"].pop("Policy", None)
        value["modified"] = int(ctx.clock.time_s())

    await revise(ctx, queue, change)


def _policy_of(value: dict[str, Any], arn: str) -> dict[str, Any]:
    text = value["attributes"].get("Policy")
    if text:
        found: dict[str, Any] = json.loads(text)
        return found
    return {"Version": "2012-10-17", "Id": f"{arn}/SQSDefaultPolicy", "Statement": []}


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    found = policy.get("Statement") or []
    return found if isinstance(found, list) else [found]


def _one_or_all(values: list[str]) -> Any:
    return values[0] if len(values) == 1 else values
