"""The registry protocol's view of ECR: who calls, which account's and Region's repositories a host or a name means.

<account>.dkr.ecr.<region>.amazonaws.com/v2/app/...              the host says whose registry it is
127.0.0.1:4566/v2/app/...                                        the caller's own, in the Region of the token
127.0.0.1:4566/v2/<account>.dkr.ecr.<region>.../app/...          the name begins with the registry
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.http import Request, Response
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream
from pilvi.images import layers, password, store
from pilvi.images.distribution import Distribution, Refused, failure
from pilvi.services.ecr.access import needed, on_repository
from pilvi.services.ecr.pull_through import fetched, make_repository
from pilvi.services.ecr.repository import find_repository

HOST = re.compile(r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.[a-z0-9.-]+(?::\d+)?")
_LAYERS = "/v2/_layers/"
_TOKEN = "/v2/token"


class EcrShelf:
    def open(self, ctx: Context, request: Request, name: str) -> tuple[Context, str]:
        given = password.password_in(request)
        caller = password.caller(ctx, given) if given else None
        host = HOST.fullmatch(request.host)
        if caller is None or (name and caller.principal.kind == "anonymous"):
            raise Refused(401, "UNAUTHORIZED", "Not Authorized", challenge(request, is_ours=host is None))
        first, _, rest = name.partition("/")
        if host is None and rest and (named := HOST.fullmatch(first)):
            host, name = named, rest
        return (caller if host is None else caller.at(host["account"], host["region"])), name

    def allow(self, ctx: Context, repository: str, *operations: str) -> None:
        for operation in operations:
            ctx.authorize(on_repository(ctx, f"ecr:{operation}", ctx.account, repository))
        if "BatchGetImage" in operations and ctx.records("Repository").find(repository) is None:
            make_repository(ctx, repository)
        find_repository(ctx, repository)

    def find_image(self, ctx: Context, repository: str, *, digest: str, tag: str) -> Mapping[str, Any] | None:
        image = store.find_image(ctx, repository, digest=digest, tag=tag) or fetched(ctx, repository, digest=digest, tag=tag)
        if image is not None:
            store.note_pull(ctx, image)
        return image

    def repositories(self, ctx: Context) -> list[str]:
        for access in needed(ctx, "DescribeRepositories", {}):
            ctx.authorize(access)
        return [record["repositoryName"] for record in ctx.records("Repository").all()]


_distribution = Distribution(EcrShelf())


async def visit(ctx: Context, request: Request) -> Response:
    """One request of a container client."""
    try:
        if request.raw_path.rstrip("/") == _TOKEN:
            return token(ctx, request)
        if request.raw_path.startswith(_LAYERS):
            return await asyncio.to_thread(_layer, ctx, request)
    except Refused as refusal:
        return failure(refusal.status, refusal.code, refusal.message, *refusal.headers)
    return await _distribution.answer(ctx, request)


def token(ctx: Context, request: Request) -> Response:
    """What a client shows from now on: its password once more if that is right, a pass of nobody if it brings none."""
    given = password.password_in(request)
    if given is not None and password.caller(ctx, given) is None:
        raise Refused(401, "UNAUTHORIZED", "Not Authorized")
    found = given if given is not None else password.anonymous(ctx)
    body = {"token": found, "access_token": found, "expires_in": int(password.LIFE.total_seconds())}
    return Response(200, [("Content-Type", "application/json")], json.dumps(body).encode())


def challenge(request: Request, *, is_ours: bool) -> tuple[str, str]:
    """How a client is to say who it is. ECR's hosts ask as ECR does; at our own address nobody's pass is to be had too."""
    if is_ours:
        return "Www-Authenticate", f'Bearer realm="{request.scheme}://{request.host}{_TOKEN}",service="{request.host}"'
    return "Www-Authenticate", f'Basic realm="https://{request.host}/",service="ecr.amazonaws.com"'


def _layer(ctx: Context, request: Request) -> Response:
    """A layer by the address that GetDownloadUrlForLayer gave."""
    place = password.unsealed(ctx, request.raw_path.removeprefix(_LAYERS))
    if place is None or "layer" not in place:
        raise Refused(403, "DENIED", "The address is not valid.")
    there = ctx.at(place["account"], place["region"])
    layer = layers.find_layer(there, place["repository"], place["layer"])
    if layer is None:
        raise Refused(404, "BLOB_UNKNOWN", "blob unknown to registry")
    headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(layer["size"]))]
    body: bytes | ByteStream = b"" if request.method == "HEAD" else layers.open_layer(there, layer)
    return Response(200, headers, body)
