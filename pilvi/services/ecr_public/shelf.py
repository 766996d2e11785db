"""The registry protocol's view of ECR Public.

    public.ecr.aws/v2/ALIAS/app/...                       by its host
    127.0.0.1:4566/v2/public.ecr.aws/ALIAS/app/...        the name begins with the registry

Anybody pulls; whoever pushes shows a token and needs the permissions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilvi.core.http import Request, Response
from pilvi.core.service import Context
from pilvi.images import password, store
from pilvi.images.distribution import Distribution, Refused, failure
from pilvi.services.ecr_public.access import REGION, on_repository
from pilvi.services.ecr_public.repository import find_repository, no_repository

HOST = "public.ecr.aws"
_READS = frozenset({"BatchGetImage", "GetDownloadUrlForLayer", "BatchCheckLayerAvailability", "ListImages"})
"""What pulling is made of: free to everybody."""


class PublicShelf:
    def open(self, ctx: Context, request: Request, name: str) -> tuple[Context, str]:
        given = password.password_in(request)
        caller = password.caller(ctx, given) if given else None
        if (given and caller is None) or (caller is None and _is_write(request)):
            raise Refused(401, "UNAUTHORIZED", "Not Authorized", _challenge(request))
        if caller is None and not name and given is None and request.host.partition(":")[0] == HOST:
            raise Refused(401, "UNAUTHORIZED", "Not Authorized", _challenge(request))
        alias, _, repository = name.removeprefix(f"{HOST}/").partition("/")
        owner = ctx.records("Alias", account="", region="").find(alias) or {"account": ""}
        found = caller if caller is not None else ctx
        if found.principal.kind == "anonymous" and _is_write(request):
            raise Refused(401, "UNAUTHORIZED", "Not Authorized", _challenge(request))
        return found.at(owner["account"], REGION), repository

    def allow(self, ctx: Context, repository: str, *operations: str) -> None:
        if not ctx.account:
            raise no_repository(ctx, repository)
        for operation in operations:
            if operation not in _READS:
                ctx.authorize(on_repository(ctx, f"ecr-public:{operation}", repository))
        find_repository(ctx, repository)

    def find_image(self, ctx: Context, repository: str, *, digest: str, tag: str) -> Mapping[str, Any] | None:
        return store.find_image(ctx, repository, digest=digest, tag=tag)

    def repositories(self, ctx: Context) -> list[str]:
        return [record["repositoryName"] for record in ctx.records("Repository").all()]


_distribution = Distribution(PublicShelf())


async def visit(ctx: Context, request: Request) -> Response:
    """One request of a container client."""
    if request.raw_path.rstrip("/") == "/token":
        try:
            return _token(ctx, request)
        except Refused as refusal:
            return failure(refusal.status, refusal.code, refusal.message, *refusal.headers)
    return await _distribution.answer(ctx, request)


def _token(ctx: Context, request: Request) -> Response:
    given = password.password_in(request)
    if given is not None and password.caller(ctx, given) is None:
        raise Refused(401, "UNAUTHORIZED", "Not Authorized")
    found = given if given is not None else password.anonymous(ctx)
    body = {"token": found, "access_token": found, "expires_in": int(password.LIFE.total_seconds())}
    return Response(200, [("Content-Type", "application/json")], json.dumps(body).encode())


def _is_write(request: Request) -> bool:
    return request.method not in ("GET", "HEAD")


def _challenge(request: Request) -> tuple[str, str]:
    is_host = request.host.partition(":")[0] == HOST
    realm = f"{request.scheme}://{request.host}/{'token' if is_host else 'v2/token'}"
    return "Www-Authenticate", f'Bearer realm="{realm}",service="{request.host}",scope="aws"'
