"""Requests to deployed APIs that other services make (pipes), as a role that must be let invoke the method.

Source: API Gateway Developer Guide, "Control access for invoking an API": execute-api:Invoke on arn:...:API/STAGE/VERB/PATH.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid
from pilvi.core.http import Request
from pilvi.core.service import Access, Context
from pilvi.core.streams import ByteStream
from pilvi.services.apigateway.call import Failure
from pilvi.services.apigateway.site import answered


async def invoke(ctx: Context, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """params: Arn (of the method, with its path as it is to be asked), Headers, Query, Body -> Status, Body."""
    arn = Arn.parse(params["Arn"])
    parts = (arn.resource if arn is not None else "").split("/", 3)
    if len(parts) < 3:
        raise Invalid(f"{params['Arn']} is no method of an API.")
    api, stage, verb, *path = parts
    ctx.authorize(Access("execute-api:Invoke", params["Arn"]))
    headers = {"content-type": "application/json", "host": "localhost", **{k.lower(): v for k, v in params["Headers"].items()}}
    body = ByteStream(params["Body"].encode())
    request = Request(verb, f"/_aws/execute-api/{api}/{stage}/{''.join(path)}", urlencode(params["Query"]), headers, body)
    try:
        answer = await answered(ctx, request, ctx.ids.hex(15) + "=")
    except Failure as failure:
        answer = failure.answer()
    return {"Status": answer.status, "Body": answer.body}
