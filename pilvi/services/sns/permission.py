"""Permissions by label: statements of a topic's policy, added and removed one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.arn import partition_of
from pilvi.core.service import Context, Operations
from pilvi.services.sns.attributes import MOST_STATEMENTS, POLICY_BYTES
from pilvi.services.sns.errors import invalid
from pilvi.services.sns.topics import Topic, default_policy, find, revise

ops = Operations(on_loop=True)

ACTIONS: Final = frozenset(
    {
        "AddPermission",
        "DeleteTopic",
        "GetDataProtectionPolicy",
        "GetTopicAttributes",
        "ListSubscriptionsByTopic",
        "ListTagsForResource",
        "Publish",
        "PutDataProtectionPolicy",
        "Receive",
        "RemovePermission",
        "SetTopicAttributes",
        "Subscribe",
    }
)
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
_ACCOUNT = re.compile(r"\d{12}\Z")


@ops
async def add_permission(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let other accounts do something with a topic.

    req: Label, AWSAccountId (account numbers), ActionName (Publish, Subscribe, ...).
    Errors: NotFound. InvalidParameter - label taken, no such action or account, too many statements.
    """
    topic = find(ctx, req["TopicArn"])
    label, accounts, actions = req["Label"], req["AWSAccountId"], req["ActionName"]
    if not _LABEL.match(label):
        raise invalid("Label")
    if not accounts:
        raise invalid("AWSAccountId")
    for action in actions:
        if action not in ACTIONS:
            raise invalid("Policy statement action out of service scope!")
    if not actions:
        raise invalid("ActionName")
    if not all(_ACCOUNT.match(account) for account in accounts):
        raise invalid("AWSAccountId")
    principals = [f"arn:{partition_of(ctx.region)}:iam::{account}:root" for account in accounts]
    statement = {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": _one_or_all(principals)},
        "Action": _one_or_all([f"SNS:{action}" for action in actions]),
        "Resource": topic.arn,
    }

    def change(row: dict[str, Any]) -> None:
        policy = _policy_of(topic, row)
        if any(one.get("Sid") == label for one in _statements(policy)):
            raise invalid("Statement already exists")
        _keep(row, policy, [*_statements(policy), statement])

    await revise(ctx, topic, change)


@ops
async def remove_permission(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a permission away by its label; one that is not there is no error. Errors: NotFound."""
    topic = find(ctx, req["TopicArn"])

    def change(row: dict[str, Any]) -> None:
        policy = _policy_of(topic, row)
        _keep(row, policy, [one for one in _statements(policy) if one.get("Sid") != req["Label"]])

    await revise(ctx, topic, change)


def _keep(row: dict[str, Any], policy: dict[str, Any], statements: list[dict[str, Any]]) -> None:
    if len(statements) > MOST_STATEMENTS:
        raise invalid(f"Policy Error: The policy may have {MOST_STATEMENTS} statements at most.")
    text = json.dumps({**policy, "Statement": statements}, separators=(",", ":"))
    if len(text) > POLICY_BYTES:
        raise invalid("Policy Error: the policy is too long")
    row["attributes"]["Policy"] = text


def _policy_of(topic: Topic, row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["attributes"].get("Policy") or default_policy(topic.arn, topic.account))
    return found


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    found = policy.get("Statement") or []
    return found if isinstance(found, list) else [found]


def _one_or_all(values: list[str]) -> Any:
    return values[0] if len(values) == 1 else values
