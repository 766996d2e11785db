"""Tags of what S3 Control keeps, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import ServiceError

KEY_LENGTH, VALUE_LENGTH = 128, 256


def checked_tags(given: Sequence[Mapping[str, Any]] | None, limit: int) -> list[dict[str, str]]:
    """Errors: TooManyTagsException; InvalidTag - too long, a reserved prefix, or a key twice."""
    tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in given or ()]
    if len(tags) > limit:
        raise ServiceError("TooManyTagsException", f"The number of tags cannot exceed {limit}.", 400)
    keys = [tag["Key"] for tag in tags]
    if len(set(keys)) < len(keys):
        raise ServiceError("InvalidTag", "Cannot provide multiple Tags with the same key", 400)
    for tag in tags:
        if not 0 < len(tag["Key"]) <= KEY_LENGTH or tag["Key"].startswith("aws:"):
            raise ServiceError("InvalidTag", "The TagKey you have provided is invalid", 400)
        if len(tag["Value"]) > VALUE_LENGTH:
            raise ServiceError("InvalidTag", "The TagValue you have provided is invalid", 400)
    return tags
