"""What ECR tells EventBridge: an image was pushed or deleted, in the transaction that did it.

Source: ECR User Guide, "Amazon ECR events and EventBridge", "Event for a completed image push", "Event for an image action".
"""

from __future__ import annotations

from collections.abc import Sequence

from pilvi.core.service import Context
from pilvi.events.told import told
from pilvi.events.told import wake as wake_bus
from pilvi.storage.records import Change


def telling(ctx: Context, repository: str, digest: str, action: str, tags: Sequence[str] = ()) -> list[Change]:
    """The changes that tell it. action: PUSH, DELETE; one event for each tag, or one without."""
    detail = {"result": "SUCCESS", "repository-name": repository, "image-digest": digest, "action-type": action}
    details = [detail | {"image-tag": tag} for tag in tags] or [detail]
    return [told(ctx, ctx.account, ctx.region, "aws.ecr", "ECR Image Action", [], one, key=repository) for one in details]


def wake(ctx: Context) -> None:
    """The transaction is committed."""
    wake_bus(ctx, ctx.account, ctx.region)
