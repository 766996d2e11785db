"""GetObjectTorrent: BitTorrent is no longer part of S3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.catalog import get_bucket

ops = Operations()


@ops
def get_object_torrent(ctx: Context, req: Mapping[str, Any]) -> None:
    """Refused for every object, as AWS does since April 2022.

    Errors: NoSuchBucket; MethodNotAllowed.
    Source: S3 User Guide, "Retrieving Amazon S3 objects using BitTorrent" (document history: no longer supported).
    """
    get_bucket(ctx, req["Bucket"])
    raise ServiceError(
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
        405,
        Method="GET",
        ResourceType="TORRENT",
    )
