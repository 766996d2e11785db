"""Tags of topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sns.errors import invalid
from pilvi.services.sns.topics import Topic, find, revise

ops = Operations(on_loop=True)

MOST: Final = 50


@ops
async def tag_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Set tags; up to 50. Errors: ResourceNotFound, InvalidParameter, TagLimitExceeded."""

    def change(row: dict[str, Any]) -> None:
        row["tags"] = checked_tags(row["tags"], req["Tags"])

    await revise(ctx, _find(ctx, req["ResourceArn"]), change)
    return {}


@ops
async def untag_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove tags; those that are not there are no error. Errors: ResourceNotFound, InvalidParameter."""

    def change(row: dict[str, Any]) -> None:
        row["tags"] = {key: value for key, value in row["tags"].items() if key not in set(req["TagKeys"])}

    await revise(ctx, _find(ctx, req["ResourceArn"]), change)
    return {}


@ops
async def list_tags_for_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """All tags of a topic. Errors: ResourceNotFound, InvalidParameter."""
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags_of(_find(ctx, req["ResourceArn"])).items()]}


def tags_of(topic: Topic) -> dict[str, str]:
    found: dict[str, str] = topic.row["tags"]
    return found


def checked_tags(there: Mapping[str, str], given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The tags after a change. Source: SNS API reference, TagResource; developer guide, "Amazon SNS topic tagging"."""
    keys = [tag["Key"] for tag in given]
    if len(set(keys)) < len(keys):
        raise invalid("Duplicated keys are not allowed.")
    for tag in given:
        if not 1 <= len(tag["Key"]) <= 128 or len(tag["Value"]) > 256 or tag["Key"].lower().startswith("aws:"):
            raise invalid(f"Tags Reason: The tag {tag['Key']} is not valid")
    found = {**there, **{tag["Key"]: tag["Value"] for tag in given}}
    if len(found) > MOST:
        raise ServiceError("TagLimitExceededException", "Could not complete request: tag quota of per resource exceeded", 400)
    return found


def _find(ctx: Context, arn: str) -> Topic:
    try:
        return find(ctx, arn, "ResourceArn")
    except ServiceError as error:
        if error.code == "NotFoundException":
            raise ServiceError("ResourceNotFoundException", "Resource does not exist", 404) from None
        raise
