"""Block public access for a whole account: four switches that count for every bucket and access point it owns.

The row lies on the shelf of the buckets ("s3bucket"), so that S3 sees a change with the next request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.storage.records import Rows

ops = Operations()

SWITCHES = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
ROW = "PublicAccessBlock"


@ops
def put_public_access_block(ctx: Context, req: Mapping[str, Any]) -> None:
    """Set the account's four switches; those left out are off. They count from the next request on, beside each bucket's own.

    Source: S3 Control API Reference, PutPublicAccessBlock.
    """
    given = req["PublicAccessBlockConfiguration"]
    switches = {name: bool(given.get(name)) for name in SWITCHES}
    settings_of(ctx, req).put(ROW, switches)


@ops
def get_public_access_block(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account's four switches.

    Errors: NoSuchPublicAccessBlockConfiguration - never set, or deleted.
    Source: S3 Control API Reference, GetPublicAccessBlock.
    """
    row = settings_of(ctx, req).find(ROW)
    if row is None:
        raise ServiceError(
            "NoSuchPublicAccessBlockConfiguration",
            "The public access block configuration was not found",
            404,
            AccountId=req["AccountId"],
        )
    return {"PublicAccessBlockConfiguration": row}


@ops
def delete_public_access_block(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take the account's switches away; each bucket's own remain. Deleting what is not there succeeds.

    Source: S3 Control API Reference, DeletePublicAccessBlock.
    """
    try:
        settings_of(ctx, req).delete(ROW)
    except NotFound:
        return


def settings_of(ctx: Context, req: Mapping[str, Any]) -> Rows:
    """What holds for all buckets of an account; pilvi.services.s3.catalog reads it."""
    return ctx.records("Account", account=req["AccountId"], region="", service="s3bucket")
