"""Policies that belong to one user, group or role and go when it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import LimitExceeded, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.iam.entity import checked_document, encoded, find, find_changeable, size_of
from pilvi.services.iam.listing import page, sorted_after
from pilvi.services.iam.tables import change, entities
from pilvi.storage.records import Change

CHARACTERS = {"User": 2048, "Group": 5120, "Role": 10240}
"""All inline policies of an entity together, without white space. Source: IAM User Guide, "IAM and AWS STS quotas"."""

ops = Operations()


@ops
def put_user_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add or replace an inline policy of a user.

    Errors: NoSuchEntity; MalformedPolicyDocument; LimitExceeded - its inline policies would pass 2048 characters together.
    """
    put(ctx, "User", req["UserName"], req["PolicyName"], req["PolicyDocument"])


@ops
def get_user_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One inline policy of a user.

    Errors: NoSuchEntity - no such user, or it has no such policy.
    """
    return get(ctx, "User", req["UserName"], req["PolicyName"])


@ops
def list_user_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The names of a user's inline policies."""
    return names(ctx, req, "User", req["UserName"])


@ops
def delete_user_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove an inline policy of a user.

    Errors: NoSuchEntity - no such user, or it has no such policy.
    """
    delete(ctx, "User", req["UserName"], req["PolicyName"])


@ops
def put_group_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add or replace an inline policy of a group.

    Errors: NoSuchEntity; MalformedPolicyDocument; LimitExceeded - its inline policies would pass 5120 characters together.
    """
    put(ctx, "Group", req["GroupName"], req["PolicyName"], req["PolicyDocument"])


@ops
def get_group_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One inline policy of a group.

    Errors: NoSuchEntity - no such group, or it has no such policy.
    """
    return get(ctx, "Group", req["GroupName"], req["PolicyName"])


@ops
def list_group_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The names of a group's inline policies."""
    return names(ctx, req, "Group", req["GroupName"])


@ops
def delete_group_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove an inline policy of a group.

    Errors: NoSuchEntity - no such group, or it has no such policy.
    """
    delete(ctx, "Group", req["GroupName"], req["PolicyName"])


@ops
def put_role_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add or replace an inline policy of a role.

    Errors: NoSuchEntity; MalformedPolicyDocument; LimitExceeded - its inline policies would pass 10240 characters together.
    """
    put(ctx, "Role", req["RoleName"], req["PolicyName"], req["PolicyDocument"])


@ops
def get_role_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One inline policy of a role.

    Errors: NoSuchEntity - no such role, or it has no such policy.
    """
    return get(ctx, "Role", req["RoleName"], req["PolicyName"])


@ops
def list_role_policies(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The names of a role's inline policies."""
    return names(ctx, req, "Role", req["RoleName"])


@ops
def delete_role_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove an inline policy of a role.

    Errors: NoSuchEntity - no such role, or it has no such policy.
    """
    delete(ctx, "Role", req["RoleName"], req["PolicyName"])


# -- how ----------------------------------------------------------------------------------------------------------------


def put(ctx: Context, noun: str, name: str, policy_name: str, document: str) -> None:
    checked_document(document)

    def decide() -> tuple[list[Change], None]:
        row = find_changeable(ctx, noun, name)
        inline = {**row.value["_inline"], policy_name: document}
        if sum(map(size_of, inline.values())) > CHARACTERS[noun]:
            raise LimitExceeded(
                f"Maximum policy size of {CHARACTERS[noun]} bytes exceeded for {noun.lower()} {row.value[noun + 'Name']}"
            )
        return [entities(ctx, noun).revision(row.id, {**row.value, "_inline": inline}, row.version)], None

    change(ctx, decide)


def get(ctx: Context, noun: str, name: str, policy_name: str) -> dict[str, Any]:
    entity = find(ctx, noun, name).value
    document = entity["_inline"].get(policy_name)
    if document is None:
        raise missing(noun, policy_name)
    return {f"{noun}Name": entity[f"{noun}Name"], "PolicyName": policy_name, "PolicyDocument": encoded(document)}


def names(ctx: Context, req: Mapping[str, Any], noun: str, name: str) -> dict[str, Any]:
    inline = find(ctx, noun, name).value["_inline"]
    return page(req, "PolicyNames", lambda after: sorted_after({key: key for key in inline}, after))


def delete(ctx: Context, noun: str, name: str, policy_name: str) -> None:
    def decide() -> tuple[list[Change], None]:
        row = find_changeable(ctx, noun, name)
        inline = dict(row.value["_inline"])
        if inline.pop(policy_name, None) is None:
            raise missing(noun, policy_name)
        return [entities(ctx, noun).revision(row.id, {**row.value, "_inline": inline}, row.version)], None

    change(ctx, decide)


def missing(noun: str, policy_name: str) -> NotFound:
    return NotFound(f"The {noun.lower()} policy with name {policy_name} cannot be found.")


def details(entity: Mapping[str, Any]) -> list[dict[str, str]]:
    """Inline policies as account details show them."""
    return [{"PolicyName": name, "PolicyDocument": encoded(document)} for name, document in sorted(entity["_inline"].items())]
