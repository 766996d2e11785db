"""Serving a bucket as a website: plain HTTP for browsers, on the bucket's website host.

    redirect everything?  ->  a rule for this prefix?  ->  the object, or the index document of a folder
      -> not there: the folder of that name (302), a rule for this error, the error document, S3's own page

Every object is read by GetObject as nobody: bucket policies, ACLs and public-access blocks decide as everywhere.

Source: S3 User Guide, "Website endpoints", "Configuring an index document", "Configuring a custom error document",
"(Optional) Configuring a webpage redirect". Pages as the service words them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.principal import ANONYMOUS
from pilvi.core.service import Context
from pilvi.services.s3.catalog import Bucket, find_bucket
from pilvi.services.s3.cors import preflight
from pilvi.services.s3.errors import CODES, no_such_bucket
from pilvi.services.s3.website import no_website

HOME = "https://aws.amazon.com/s3/"
MOVED, FOUND, NOT_MODIFIED = 301, 302, 304

HTML = "text/html; charset=utf-8"

HEADERS = {
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentEncoding": "Content-Encoding",
    "ContentLanguage": "Content-Language",
    "ContentRange": "Content-Range",
    "ContentType": "Content-Type",
    "ETag": "ETag",
    "Expires": "Expires",
    "ExpiresString": "Expires",
    "VersionId": "x-amz-version-id",
}
TEXTS = {"if-match": "IfMatch", "if-none-match": "IfNoneMatch", "range": "Range"}
DATES = {"if-modified-since": "IfModifiedSince", "if-unmodified-since": "IfUnmodifiedSince"}

Fields = list[tuple[str, str]]


async def website(ctx: Context, request: Request, params: Mapping[str, str]) -> Response:
    """Answer a browser. Errors are pages."""
    if request.method == "OPTIONS":
        return await preflight(ctx, request, params)
    try:
        response = await serve(ctx, request, params)
    except PilviError as error:
        response = page_of(ctx, as_known(error))
    response.headers[:0] = [("x-amz-request-id", ctx.request_id), ("x-amz-id-2", host_id(ctx))]
    return without_body(response) if request.method == "HEAD" else response


async def serve(ctx: Context, request: Request, params: Mapping[str, str]) -> Response:
    name, key = params["Bucket"], params["Key"]
    if not name:
        return redirect(MOVED, HOME)
    if request.method not in ("GET", "HEAD"):
        raise ServiceError(
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
            405,
            Method=request.method,
            ResourceType="OBJECT",
            _headers={"Allow": "HEAD, GET"},
        )
    bucket = find_bucket(ctx, name)
    if bucket is None:
        raise no_such_bucket(name)
    check_endpoint(bucket, params["Region"])
    site = bucket.value.get("Website")
    if site is None:
        raise no_website(name)
    nobody = as_nobody(ctx, bucket)
    if (target := site.get("RedirectAllRequestsTo")) is not None:
        return redirect_all(request, target)
    if (rule := find_rule(site, key, None)) is not None:
        return redirect_by(request, rule, key)
    try:
        return await page(nobody, request, bucket, with_index(site, key), conditions_of(request))
    except PilviError as error:
        return await excuse(nobody, request, bucket, site, key, as_known(error))


def check_endpoint(bucket: Bucket, region: str) -> None:
    """An endpoint serves the buckets of its own Region; the local form serves all."""
    if region and region != bucket.region:
        raise ServiceError(
            "IncorrectEndpoint",
            "The specified bucket exists in another region. Please direct requests to the specified endpoint.",
            400,
            Endpoint=f"{bucket.name}.s3-website.{bucket.region}.amazonaws.com",
        )


def as_nobody(ctx: Context, bucket: Bucket) -> Context:
    return Context(
        ctx.cloud,
        principal=ANONYMOUS,
        account=ANONYMOUS.account,
        region=bucket.region,
        service="s3",
        request_id=ctx.request_id,
        source_ip=ctx.source_ip,
        secure=ctx.secure,
        user_agent=ctx.user_agent,
    )


def with_index(site: Mapping[str, Any], key: str) -> str:
    return key + site["IndexDocument"]["Suffix"] if not key or key.endswith("/") else key


def conditions_of(request: Request) -> dict[str, Any]:
    """The request's conditions and range as members. Dates that are none are ignored, as RFC 9110 says."""
    found: dict[str, Any] = {member: request.headers[name] for name, member in TEXTS.items() if name in request.headers}
    for name, member in DATES.items():
        try:
            instant = parsedate_to_datetime(request.headers.get(name, ""))
        except ValueError:
            continue
        found[member] = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return found


# -- objects --------------------------------------------------------------------------------------------------------------


async def page(ctx: Context, request: Request, bucket: Bucket, key: str, conditions: Mapping[str, Any]) -> Response:
    """An object as a page, or where it says it went."""
    operation = "HeadObject" if request.method == "HEAD" else "GetObject"
    found = await ctx.acall("s3", operation, Bucket=bucket.name, Key=key, **conditions)
    if (target := found.get("WebsiteRedirectLocation")) is not None:
        if "Body" in found:
            await found["Body"].close()
        return redirect(MOVED, target)
    headers = list(headers_of(found))
    if request.method == "HEAD":
        headers.append(("Content-Length", str(found["ContentLength"])))
    return Response(206 if "ContentRange" in found else 200, headers, found.get("Body", b""))


def headers_of(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Last-Modified", http_date(found["LastModified"])
    for member, name in HEADERS.items():
        if (value := found.get(member)) is not None:
            yield name, http_date(value) if isinstance(value, datetime) else one_line(str(value))
    for name, value in (found.get("Metadata") or {}).items():
        yield f"x-amz-meta-{name}", one_line(value)


def http_date(instant: datetime) -> str:
    return format_datetime(instant.astimezone(UTC), usegmt=True)


def one_line(text: str) -> str:
    """What a header can carry."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=" /:;,=?&%()<>'\"@#+*!$~-._")


# -- redirects ------------------------------------------------------------------------------------------------------------


def redirect(status: int, location: str, headers: Fields | None = None, body: bytes = b"") -> Response:
    return Response(status, [("Location", one_line(location)), *(headers or [])], body)


def redirect_all(request: Request, target: Mapping[str, Any]) -> Response:
    query = f"?{request.query}" if request.query else ""
    protocol = target.get("Protocol") or request.scheme
    return redirect(MOVED, f"{protocol}://{target['HostName']}{request.raw_path}{query}")


def find_rule(site: Mapping[str, Any], key: str, status: int | None) -> Mapping[str, Any] | None:
    """The first rule for a key (status None), or for a key whose answer is an error of this status."""
    for rule in site.get("RoutingRules") or ():
        condition = rule.get("Condition") or {}
        wanted = condition.get("HttpErrorCodeReturnedEquals")
        if key.startswith(condition.get("KeyPrefixEquals") or "") and wanted == (None if status is None else str(status)):
            found: Mapping[str, Any] = rule
            return found
    return None


def redirect_by(request: Request, rule: Mapping[str, Any], key: str) -> Response:
    target = rule["Redirect"]
    if "ReplaceKeyWith" in target:
        key = target["ReplaceKeyWith"]
    elif "ReplaceKeyPrefixWith" in target:
        prefix = (rule.get("Condition") or {}).get("KeyPrefixEquals") or ""
        key = target["ReplaceKeyPrefixWith"] + key[len(prefix) :]
    protocol, host = target.get("Protocol") or request.scheme, target.get("HostName") or request.host
    return redirect(int(target.get("HttpRedirectCode") or MOVED), f"{protocol}://{host}/{quote(key, safe='/~!$&()*+,;=:@?#')}")


# -- errors ---------------------------------------------------------------------------------------------------------------


async def excuse(
    ctx: Context, request: Request, bucket: Bucket, site: Mapping[str, Any], key: str, error: ServiceError
) -> Response:
    """What is answered instead of a page that cannot be had."""
    status = error.status or 400
    if status == NOT_MODIFIED:
        return Response(status, list((error.fields.get("_headers") or {}).items()))
    if key and not key.endswith("/") and await is_folder(ctx, bucket, with_index(site, f"{key}/")):
        found = ServiceError("Found", "Resource Found", FOUND)
        headers = [*error_headers(found), ("Content-Type", HTML)]
        return redirect(FOUND, f"/{quote(key)}/", headers, html_of(ctx, found).encode())
    if (rule := find_rule(site, key, status)) is not None:
        return redirect_by(request, rule, key)
    document = (site.get("ErrorDocument") or {}).get("Key")
    if document is None or status >= 500:
        return page_of(ctx, error)
    try:
        response = await page(ctx, request, bucket, document, {})
    except PilviError as second:
        return page_of(ctx, error, as_known(second), document)
    if response.status == 200:
        response.status = status
        response.headers += error_headers(error)
    return response


async def is_folder(ctx: Context, bucket: Bucket, index: str) -> bool:
    try:
        await ctx.acall("s3", "HeadObject", Bucket=bucket.name, Key=index)
    except PilviError:
        return False
    return True


def as_known(error: PilviError) -> ServiceError:
    """An error by its code, with its status."""
    if not isinstance(error, ServiceError):
        return ServiceError(CODES.get(type(error), "InternalError"), error.message, 500 if type(error) not in CODES else None)
    if error.status is None:
        return ServiceError(error.code, error.message, 403 if error.code == "AccessDenied" else 400, **error.fields)
    return error


def error_headers(error: ServiceError) -> Fields:
    found = [("x-amz-error-code", error.code), ("x-amz-error-message", one_line(error.message))]
    return found + [(f"x-amz-error-detail-{name}", one_line(str(value))) for name, value in details_of(error)]


def details_of(error: ServiceError) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in error.fields.items() if not name.startswith("_")]


def page_of(ctx: Context, error: ServiceError, second: ServiceError | None = None, document: str = "") -> Response:
    """S3's own page about an error; `second` tells why the error document could not be shown."""
    headers = [*error_headers(error), *(error.fields.get("_headers") or {}).items(), ("Content-Type", HTML)]
    return Response(error.status or 400, headers, html_of(ctx, error, second, document).encode())


def html_of(ctx: Context, error: ServiceError, second: ServiceError | None = None, document: str = "") -> str:
    title = f"{error.status} {phrase_of(error.status or 400)}"
    items = [("Code", error.code), ("Message", error.message), *details_of(error)]
    parts = [f"<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n"]
    parts.append(list_of([*items, ("RequestId", ctx.request_id), ("HostId", host_id(ctx))]))
    if second is not None:
        parts.append("<h3>An Error Occurred While Attempting to Retrieve a Custom Error Document</h3>\n")
        parts.append(list_of([("Code", second.code), ("Message", second.message), ("Key", document)]))
    return "".join([*parts, "<hr/>\n</body>\n</html>\n"])


def list_of(items: list[tuple[str, Any]]) -> str:
    lines = "".join(f"<li>{escape(name)}: {escape(str(value))}</li>\n" for name, value in items)
    return f"<ul>\n{lines}</ul>\n"


def phrase_of(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def host_id(ctx: Context) -> str:
    return f"cGlsdmk{ctx.request_id.replace('-', '')}"


def without_body(response: Response) -> Response:
    """What HEAD gets."""
    if not any(name == "Content-Length" for name, _ in response.headers):
        assert isinstance(response.body, bytes)
        response.headers.append(("Content-Length", str(len(response.body))))
    response.body = b""
    return response
