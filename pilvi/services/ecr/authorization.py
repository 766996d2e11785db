"""The token that container clients log in with."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.images.password import USER, issue
from pilvi.services.ecr.repository import registry_host

ops = Operations()


@ops
def get_authorization_token(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A user name and password for `docker login`, as base 64, good for twelve hours.

    req: registryIds (deprecated: the token reaches every registry that the caller may).
    Differs: a token ends with the temporary credentials it was asked for with, if they end before.
    """
    found = []
    for account in req.get("registryIds") or (ctx.account,):
        password, until = issue(ctx)
        found.append(
            {
                "authorizationToken": base64.b64encode(f"{USER}:{password}".encode()).decode(),
                "expiresAt": until,
                "proxyEndpoint": f"https://{registry_host(ctx.at(account, ctx.region))}",
            }
        )
    return {"authorizationData": found}
