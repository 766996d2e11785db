"""Links to packages, as Code.Location and Content.Location give them: sealed in the link itself, good for ten minutes."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import PilviError
from pilvi.core.http import Response
from pilvi.core.streams import ByteStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilvi.core.service import Context
    from pilvi.storage.blobs import Blobs

PATH = "/_pilvi/lambda/"
_PREFIX = "zip."
_CONTEXT = b"lambda-link"
_VALID_S = 600
_CHUNK_BYTES = 1 << 20


def location_of(ctx: Context, blob: str) -> str:
    """Where the zip can be fetched for the next ten minutes, by whoever holds the link."""
    ticket = json.dumps([blob, ctx.clock.real_s() + _VALID_S]).encode()
    token = base64.urlsafe_b64encode(ctx.keyring.seal(ticket, _CONTEXT)).decode().rstrip("=")
    return f"{ctx.cloud.endpoint}{PATH}{_PREFIX}{token}/package.zip"


def is_link(token: str) -> bool:
    return token.startswith(_PREFIX)


def serve(ctx: Context, token: str) -> Response:
    """The zip behind a link's token. For threads."""
    blob = _blob_of(ctx, token)
    if blob is None:
        return Response(403, [("content-type", "text/plain")], b"The link is not valid, or has expired.\n")
    size = ctx.blobs.size(blob)
    headers = [("content-type", "application/zip"), ("content-length", str(size))]
    return Response(200, headers, ByteStream(sync=_chunks(ctx.blobs, blob, size), length=size))


def _blob_of(ctx: Context, token: str) -> str | None:
    try:
        text = token[len(_PREFIX) :]
        ticket: list[Any] = json.loads(ctx.keyring.unseal(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), _CONTEXT))
        blob, expires_s = ticket
        ctx.blobs.size(blob)
    except (PilviError, ValueError, binascii.Error):
        return None
    return str(blob) if ctx.clock.real_s() < expires_s else None


def _chunks(blobs: Blobs, name: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, _CHUNK_BYTES):
        yield blobs.read(name, start, min(start + _CHUNK_BYTES, size))
