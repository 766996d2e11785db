"""The site: requests to deployed APIs, by host name or by path.

    https://ID.execute-api.REGION.amazonaws.com/STAGE/path     ID.execute-api.localhost[:PORT]/STAGE/path
    /_aws/execute-api/ID/STAGE/path                            /restapis/ID/STAGE/_user_request_/path

What a stage serves is thawed and arranged once, and kept until a row of this service changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pilvi.core.http import Request, Response
from pilvi.core.service import Access, Context
from pilvi.services.apigateway.authorization import authorize
from pilvi.services.apigateway.call import Answer, Call, Failure, forbidden, missing_token, too_long
from pilvi.services.apigateway.deployment import thawed
from pilvi.services.apigateway.execution import run
from pilvi.services.apigateway.rest_api import addresses
from pilvi.services.apigateway.routing import Router
from pilvi.services.apigateway.usage import admit

MOST_BODY = 10 * 1024 * 1024
"""Source: API Gateway quotas, "Payload size"."""
MOST_STAGES = 256
MOST_KEYS = 10_000
HOST = re.compile(r"([a-z0-9]+)\.execute-api\.")
PATHS = (
    re.compile(r"/_aws/execute-api/(?P<api>[^/]+)(?:/(?P<stage>[^/]+)(?P<path>/.*)?)?/?"),
    re.compile(r"/restapis/(?P<api>[^/]+)/(?P<stage>[^/]+)/_user_request_(?P<path>/.*)?"),
)
BY_HOST = re.compile(r"/(?P<stage>[^/]*)(?P<path>/.*)?")
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "expect", "content-length", "proxy-connection"}
)


class Address(NamedTuple):
    api: str
    stage: str
    path: str


@dataclass(frozen=True, slots=True)
class Served:
    """What a stage serves."""

    account: str
    region: str
    stage: Mapping[str, Any]
    router: Router
    policy: Mapping[str, Any] | None
    binary_types: tuple[str, ...]
    is_disabled: bool
    api: Mapping[str, Any]
    """Authorizers, validators and models, as frozen."""
    canary: Served | None = None
    canary_percent: float = 0.0


async def execute(ctx: Context, request: Request) -> Response:
    """Answer one request to a deployed API."""
    extended_id = ctx.ids.pick("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", 15) + "="
    try:
        answer = await answered(ctx, request, extended_id)
    except Failure as failure:
        answer = failure.answer()
    return response_of(ctx, answer, extended_id)


async def answered(ctx: Context, request: Request, extended_id: str) -> Answer:
    address = address_of(request)
    served = None if address is None else find_served(ctx, address.api, address.stage)
    if address is None or served is None or served.is_disabled:
        raise forbidden()
    if served.canary is not None and int(ctx.ids.hex(8), 16) / 16**8 * 100 < served.canary_percent:
        served = served.canary
    home = ctx.at(served.account, served.region)
    call = call_of(ctx, request, address, served, extended_id)
    check_policy(home, served, call)
    route = served.router.find(call.verb, call.path)
    if route is None:
        raise missing_token()
    call.resource, call.method, call.parameters = route.resource, route.method, route.parameters
    if call.method["authorizationType"] == "CUSTOM":
        await authorize(home, call, served.api["_authorizers"][call.method["authorizerId"]], remembered(ctx)["verdicts"])
    if call.method["apiKeyRequired"]:
        await admit(home.to("apigateway", ""), call, remembered(ctx)["keys"])
    call.body = await body_of(request)
    return await run(home, call)


def address_of(request: Request) -> Address | None:
    """API, stage and path of a request in any of its forms."""
    for form in PATHS:
        if (found := form.fullmatch(request.raw_path)) is not None:
            return Address(found["api"], found["stage"] or "", found["path"] or "/")
    host, found = HOST.match(request.host), BY_HOST.fullmatch(request.raw_path)
    if host is None or found is None:
        return None
    return Address(host[1], found["stage"], found["path"] or "/")


# -- what a stage serves ------------------------------------------------------------------------------------------------


def find_served(ctx: Context, api: str, stage: str) -> Served | None:
    """From memory, unless this service's rows have changed."""
    stages: dict[tuple[str, str], Served | None] = remembered(ctx)["stages"]
    if (api, stage) not in stages:
        if len(stages) >= MOST_STAGES:
            stages.clear()
        stages[api, stage] = load_served(ctx, api, stage)
    return stages[api, stage]


def remembered(ctx: Context) -> dict[str, Any]:
    """Stages, keys and authorizers' verdicts met since a row of this service was last written."""
    memory: dict[str, Any] = ctx.cloud.memory.setdefault("apigateway", {"generation": None})
    generation = ctx.store.generation("apigateway")
    if memory["generation"] != generation or len(memory["keys"]) >= MOST_KEYS:
        memory |= {"generation": generation, "stages": {}, "keys": {}, "verdicts": {}}
    return memory


def load_served(ctx: Context, api: str, stage: str) -> Served | None:
    address = addresses(ctx).find(api)
    if address is None:
        return None
    home = ctx.at(address["account"], address["region"]).to("apigateway", "")
    found = home.records("Stage").find(f"{api}/{stage}")
    served = None if found is None else arranged(home, api, found)
    if found is None or served is None or "canarySettings" not in found:
        return served
    settings = found["canarySettings"]
    variables = (found.get("variables") or {}) | settings.get("stageVariableOverrides", {})
    canary = arranged(home, api, {**found, "deploymentId": settings["deploymentId"], "variables": variables})
    return replace(served, canary=canary, canary_percent=settings["percentTraffic"])


def arranged(home: Context, api: str, stage: Mapping[str, Any]) -> Served | None:
    """What a deployment serves under a stage's name and variables."""
    deployment = home.records("Deployment").find(f"{api}/{stage['deploymentId']}")
    if deployment is None:
        return None
    frozen = thawed(home, deployment)
    return Served(
        home.account,
        home.region,
        stage,
        Router(frozen["_resources"]),
        json.loads(frozen["policy"]) if "policy" in frozen else None,
        tuple(frozen.get("binaryMediaTypes") or ()),
        bool(frozen.get("disableExecuteApiEndpoint")),
        {key: frozen.get(key) or {} for key in ("_authorizers", "_validators", "_models")},
    )


# -- the request --------------------------------------------------------------------------------------------------------


def call_of(ctx: Context, request: Request, address: Address, served: Served, extended_id: str) -> Call:
    """Everything about the request but its body and its route."""
    trace_id = request.header("x-amzn-trace-id") or f"Root=1-{int(ctx.clock.real_s()):08x}-{ctx.ids.hex(24)}"
    return Call(
        api_id=address.api,
        account=served.account,
        region=served.region,
        stage=served.stage["stageName"],
        variables=served.stage.get("variables") or {},
        deployment_id=served.stage["deploymentId"],
        verb=request.method,
        path=address.path,
        query=request.query,
        headers=headers_of(request, trace_id),
        body=b"",
        source_ip=request.client,
        request_id=ctx.request_id,
        extended_id=extended_id,
        trace_id=trace_id,
        at=ctx.clock.now(),
        binary_types=served.binary_types,
        api=served.api,
    )


def headers_of(request: Request, trace_id: str) -> dict[str, list[str]]:
    """As an integration sees them: names as HTTP/1.1 clients write them, what belongs to the connection left out."""
    headers = {title(name): [value] for name, value in request.headers.items() if name not in HOP_BY_HOP}
    forwarded = request.header("x-forwarded-for")
    headers["X-Amzn-Trace-Id"] = [trace_id]
    headers["X-Forwarded-For"] = [f"{forwarded}, {request.client}" if forwarded else request.client]
    headers["X-Forwarded-Port"] = [
        request.host.rpartition(":")[2] if ":" in request.host else "443" if request.scheme == "https" else "80"
    ]
    headers["X-Forwarded-Proto"] = [request.scheme]
    return headers


def title(name: str) -> str:
    return "-".join([part.capitalize() for part in name.split("-")])


async def body_of(request: Request) -> bytes:
    """The whole body; Failure (413) as soon as it is longer than API Gateway takes."""
    if (request.body.length or 0) > MOST_BODY:
        raise too_long()
    pieces, total = [], 0
    async for piece in request.body:
        total += len(piece)
        if total > MOST_BODY:
            raise too_long()
        pieces.append(piece)
    return b"".join(pieces)


def check_policy(home: Context, served: Served, call: Call) -> None:
    """The API's own resource policy, where it has one, decides about the anonymous caller."""
    if served.policy is None:
        return
    arn = call.arn_of(call.path)
    if home.allows(Access("execute-api:Invoke", arn, served.policy, served.account)):
        return
    masked = arn.replace(f":{call.account}:", f":{'*' * 8}{call.account[-4:]}:")
    text = f"User: anonymous is not authorized to perform: execute-api:Invoke on resource: {masked}"
    raise Failure(403, "AccessDeniedException", json.dumps({"Message": text}))


# -- the answer ---------------------------------------------------------------------------------------------------------


def response_of(ctx: Context, answer: Answer, extended_id: str) -> Response:
    headers = [*answer.headers, ("x-amzn-RequestId", ctx.request_id), ("x-amz-apigw-id", extended_id)]
    return Response(answer.status, headers, answer.body)
