"""Function URLs: plain HTTP to a function, without API Gateway."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from pilvi.core.errors import AlreadyExists, NotFound, ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.service import Access, Context, Operations
from pilvi.services.lambda_.catalog import catalog_of
from pilvi.services.lambda_.engine import engine_of
from pilvi.services.lambda_.invoke import SYNC_BYTES
from pilvi.services.lambda_.names import FunctionRef, conflict, function_ref, invalid, not_found
from pilvi.services.lambda_.version import find_version

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

PATH = "/_aws/lambda-url/"
_IDS = {"account": "", "region": ""}
"""Ids of URLs belong to no account: a request brings nothing else."""
_FORBIDDEN = "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"


@ops
def create_function_url_config(ctx: Context, req: t.CreateFunctionUrlConfigRequestTypeDef) -> Mapping[str, Any]:
    """Give a function (or an alias) a URL.

    req: FunctionName, Qualifier (an alias), AuthType NONE, InvokeMode BUFFERED.
    Errors: ResourceNotFoundException; ResourceConflictException - it has one; InvalidParameterValueException.
    Source: Lambda API reference, CreateFunctionUrlConfig; developer guide, "Creating and managing Lambda function URLs".
    Differs: the URL is a path of this server; AuthType AWS_IAM, Cors and RESPONSE_STREAM are refused.
    """
    ref = _place(ctx, req)
    _check(req)
    url_id = ctx.ids.lower(32)
    now = _stamp(ctx.clock.now())
    record = {
        "FunctionUrl": f"{ctx.cloud.endpoint}{PATH}{url_id}/",
        "FunctionArn": ref.qualified_arn,
        "AuthType": req["AuthType"],
        "InvokeMode": req.get("InvokeMode") or "BUFFERED",
        "CreationTime": now,
        "LastModifiedTime": now,
        "_url_id": url_id,
    }
    rows = ctx.records("FunctionUrl", account=ref.account)
    place = {"function": list(ref)}
    try:
        ctx.write(rows.insertion(_row_id(ref), record), ctx.records("FunctionUrlId", **_IDS).insertion(url_id, place))
    except AlreadyExists as error:
        raise conflict(
            f"Failed to create function url config for [functionArn = {ref.qualified_arn}]. Error message: FunctionUrlConfig exists for this Lambda function"
        ) from error
    return record


@ops
def get_function_url_config(ctx: Context, req: t.GetFunctionUrlConfigRequestTypeDef) -> Mapping[str, Any]:
    """The URL of a function or an alias. Errors: ResourceNotFoundException."""
    return _found(ctx, _place(ctx, req))


@ops
def list_function_url_configs(ctx: Context, req: t.ListFunctionUrlConfigsRequestTypeDef) -> Mapping[str, Any]:
    """The URLs of a function and its aliases."""
    ref = _place(ctx, req)
    rows = ctx.records("FunctionUrl", account=ref.account)
    found, marker = rows.page(req.get("Marker"), min(req.get("MaxItems") or 50, 50), prefix=f"{ref.name}/")
    return {"FunctionUrlConfigs": found, "NextMarker": marker}


@ops
def update_function_url_config(ctx: Context, req: t.UpdateFunctionUrlConfigRequestTypeDef) -> Mapping[str, Any]:
    """Change what is given; the URL stays."""
    ref = _place(ctx, req)
    _check(req)
    given: dict[str, Any] = {member: req[member] for member in ("AuthType", "InvokeMode") if req.get(member)}
    given["LastModifiedTime"] = _stamp(ctx.clock.now())
    try:
        return ctx.records("FunctionUrl", account=ref.account).update(_row_id(ref), lambda record: {**record, **given})
    except NotFound as error:
        raise _missing() from error


@ops
def delete_function_url_config(ctx: Context, req: t.DeleteFunctionUrlConfigRequestTypeDef) -> None:
    """Take the URL away. Errors: ResourceNotFoundException."""
    ref = _place(ctx, req)
    record = _found(ctx, ref)
    deletion = ctx.records("FunctionUrl", account=ref.account).deletion(_row_id(ref))
    ctx.write(deletion, ctx.records("FunctionUrlId", **_IDS).deletion(record["_url_id"]))


async def function_url(ctx: Context, request: Request) -> Response:
    """Answer a request to a function's URL: format 2.0 in, a structured or plain answer out.

    Source: developer guide, "Invoking Lambda function URLs".
    """
    url_id, path = _url_id_of(request)
    known = ctx.records("FunctionUrlId", **_IDS).find(url_id)
    ref = FunctionRef(*known["function"]) if known else None
    if ref is None or ctx.records("FunctionUrl", account=ref.account, region=ref.region).find(_row_id(ref)) is None:
        return _message(404, None)
    at = ctx.at(ref.account, ref.region)
    policy = catalog_of(ctx.cloud).policy(ref)
    condition = {"lambda:FunctionUrlAuthType": "NONE", "lambda:InvokedViaFunctionUrl": "true"}
    if not at.allows(Access("lambda:InvokeFunctionUrl", ref.qualified_arn, policy, ref.account, condition)):
        return _message(403, _FORBIDDEN)
    body = await request.body.read()
    payload = json.dumps(event_of(at, request, url_id, path, body)).encode()
    if len(payload) > SYNC_BYTES:
        return _message(413, "Request Too Long")
    try:
        _, outcome = await engine_of(ctx.cloud).run(ref, ctx.request_id, payload)
    except ServiceError as error:
        return _message(429 if error.code == "TooManyRequestsException" else 502, error.message)
    return answer_of(outcome.payload) if not outcome.error else _message(502, "Internal Server Error")


def event_of(ctx: Context, request: Request, url_id: str, path: str, body: bytes) -> dict[str, Any]:
    """The event a function gets, payload format version 2.0."""
    now = ctx.clock.now()
    headers = {name: value for name, value in request.headers.items() if name != "cookie"}
    query: dict[str, str] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    try:
        text, is_base64 = body.decode(), False
    except UnicodeDecodeError:
        text, is_base64 = base64.b64encode(body).decode(), True
    http = {"method": request.method, "path": unquote(path), "protocol": "HTTP/1.1", "sourceIp": request.client}
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": unquote(path),
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": url_id,
            "domainName": request.host,
            "domainPrefix": url_id,
            "http": {**http, "userAgent": request.header("user-agent")},
            "requestId": ctx.request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "isBase64Encoded": is_base64,
    }
    if query:
        event["queryStringParameters"] = query
    if cookies := request.header("cookie"):
        event["cookies"] = [cookie.strip() for cookie in cookies.split(";")]
    if body:
        event["body"] = text
    return event


def answer_of(payload: bytes) -> Response:
    """HTTP out of what the handler returned."""
    content = json.loads(payload)
    if not isinstance(content, dict) or "statusCode" not in content:
        plain = content.encode() if isinstance(content, str) else payload
        return Response(200, [("content-type", "application/json")], plain)
    body = content.get("body") or ""
    data = body if isinstance(body, str) else json.dumps(body)
    headers = [(str(name).lower(), str(value)) for name, value in (content.get("headers") or {}).items()]
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    headers += [("set-cookie", str(cookie)) for cookie in content.get("cookies") or ()]
    headers = [(name, value) for name, value in headers if name not in ("content-length", "transfer-encoding", "connection")]
    try:
        status = int(content["statusCode"])
        raw = base64.b64decode(data) if content.get("isBase64Encoded") else data.encode()
    except (TypeError, ValueError):
        return _message(502, "Internal Server Error")
    return Response(status, headers, raw)


def _url_id_of(request: Request) -> tuple[str, str]:
    """The id and the path behind it, from the host or from the path."""
    if request.raw_path.startswith(PATH):
        url_id, slash, rest = request.raw_path.removeprefix(PATH).partition("/")
        return url_id, slash + rest or "/"
    return request.host.partition(".")[0], request.raw_path


def _message(status: int, text: str | None) -> Response:
    return Response(status, [("content-type", "application/json")], json.dumps({"Message": text}).encode())


def _place(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    ref = function_ref(ctx, req)
    if (ref.qualifier and not ref.version_or_alias) or ref.qualifier.isdigit():
        raise invalid("Function URLs are for functions and aliases, not for versions.")
    find_version(ctx, ref)
    return ref


def _check(req: Mapping[str, Any]) -> None:
    if req.get("AuthType") == "AWS_IAM":
        raise invalid("AuthType: AWS_IAM is not available in this cloud for function URLs; use NONE.")
    if req.get("Cors"):
        raise invalid("Cors: not available in this cloud for function URLs; let the function send the headers.")
    if req.get("InvokeMode") == "RESPONSE_STREAM":
        raise invalid("InvokeMode: RESPONSE_STREAM is not available in this cloud for function URLs; use BUFFERED.")


def _found(ctx: Context, ref: FunctionRef) -> dict[str, Any]:
    found = ctx.records("FunctionUrl", account=ref.account).find(_row_id(ref))
    if found is None:
        raise _missing()
    return found


def _missing() -> ServiceError:
    return not_found("The resource you requested does not exist.")


def _row_id(ref: FunctionRef) -> str:
    return f"{ref.name}/{ref.qualifier}"


def _stamp(now: datetime) -> str:
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
