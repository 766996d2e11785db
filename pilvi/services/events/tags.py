"""Tags as EventBridge keeps them: what a name may be, and how many. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.services.events.errors import invalid, too_many

MOST: Final = 50


def checked_tags(there: Mapping[str, str], new: Sequence[Mapping[str, Any]] | None) -> dict[str, str]:
    """Tags with others laid over them."""
    names = [tag["Key"] for tag in new or ()]
    if len(set(names)) < len(names):
        raise invalid("Each tag key must be unique.")
    if any(name.lower().startswith("aws:") for name in names):
        raise invalid("Tag keys cannot begin with aws:, which is reserved.")
    found = {**there, **{tag["Key"]: tag["Value"] for tag in new or ()}}
    if len(found) > MOST:
        raise too_many()
    return found


def listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in tags.items()]
