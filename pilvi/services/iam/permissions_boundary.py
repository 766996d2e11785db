"""Permissions boundaries: the managed policy that limits what a user or role may be granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.iam import usage
from pilvi.services.iam.entity import find_changeable
from pilvi.services.iam.tables import change, entities
from pilvi.storage.records import Change

ops = Operations()


@ops
def put_user_permissions_boundary(ctx: Context, req: Mapping[str, Any]) -> None:
    """Bound a user by a managed policy, in place of an earlier one.

    Errors: NoSuchEntity - no such user or policy.
    """
    put(ctx, "User", req["UserName"], req["PermissionsBoundary"])


@ops
def put_role_permissions_boundary(ctx: Context, req: Mapping[str, Any]) -> None:
    """Bound a role by a managed policy, in place of an earlier one.

    Errors: NoSuchEntity - no such role or policy; UnmodifiableEntity - the role belongs to a service.
    """
    put(ctx, "Role", req["RoleName"], req["PermissionsBoundary"])


@ops
def delete_user_permissions_boundary(ctx: Context, req: Mapping[str, Any]) -> None:
    """Lift a user's boundary.

    Errors: NoSuchEntity - no such user, or it has no boundary.
    """
    put(ctx, "User", req["UserName"], None)


@ops
def delete_role_permissions_boundary(ctx: Context, req: Mapping[str, Any]) -> None:
    """Lift a role's boundary.

    Errors: NoSuchEntity - no such role, or it has no boundary; UnmodifiableEntity.
    """
    put(ctx, "Role", req["RoleName"], None)


def put(ctx: Context, noun: str, name: str, arn: str | None) -> None:
    def decide() -> tuple[list[Change], None]:
        row = find_changeable(ctx, noun, name)
        if arn is None and not row.value.get("_boundary"):
            raise NotFound(f"Permissions boundary for the {noun.lower()} with name {name} cannot be found.")
        bounded = {**row.value, "_boundary": arn}
        changes = usage.boundary_changes(ctx, noun, row.value, bounded)
        return [entities(ctx, noun).revision(row.id, bounded, row.version), *changes] if changes else [], None

    change(ctx, decide)
