"""What the bucket adds to an answer, whatever the operation: headers for pages of other origins, and who was charged."""

from __future__ import annotations

from collections.abc import Mapping

from pilvi.core.http import Request, Response
from pilvi.core.service import Context
from pilvi.services.s3.catalog import find_bucket
from pilvi.services.s3.cors import headers_for
from pilvi.services.s3.entry import PAID, charged_account
from pilvi.services.s3.request_payment import charge

ERRORS = 400


async def afterwards(ctx: Context, request: Request, params: Mapping[str, str], response: Response) -> None:
    """Called for requests that carry Origin or x-amz-request-payer; all others never come here."""
    bucket = find_bucket(ctx, params.get("Bucket", ""))
    if bucket is None:
        return
    if "origin" in request.headers and request.method != "OPTIONS":
        response.headers.extend(headers_for(bucket, request))
    if response.status < ERRORS and ctx.operation in PAID and (payer := charged_account(ctx, bucket)):
        await charge(ctx, bucket, payer, response)
