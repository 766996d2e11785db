"""Tags of secrets. They may decide who reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.secretsmanager.errors import invalid_parameter
from pilvi.services.secretsmanager.replication import follow, primary

ops = Operations()

MOST = 50


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add tags, or give those that are there other values.

    Errors: ResourceNotFoundException. InvalidParameterException - more than 50, a name twice, or one of AWS's.
    """
    secret = primary(ctx, req["SecretId"])
    follow(ctx, secret, lambda there: there | {"Tags": merged(there["Tags"], req["Tags"])})


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take tags away.

    Errors: ResourceNotFoundException.
    """
    secret = primary(ctx, req["SecretId"])
    follow(ctx, secret, lambda there: there | {"Tags": [tag for tag in there["Tags"] if tag["Key"] not in req["TagKeys"]]})


def merged(tags: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tags with others laid over them."""
    names = [tag.get("Key") or "" for tag in new]
    if len(set(names)) < len(names) or not all(names):
        raise invalid_parameter("Tag keys must be given, and each only once.")
    if any(name.lower().startswith("aws:") for name in names):
        raise invalid_parameter("Tag keys cannot begin with aws:")
    found = {tag["Key"]: tag.get("Value") or "" for tag in [*tags, *new]}
    if len(found) > MOST:
        raise invalid_parameter(f"A secret can have at most {MOST} tags.")
    return [{"Key": name, "Value": value} for name, value in found.items()]
