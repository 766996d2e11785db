"""Cross-origin rules: which pages of other origins may call a bucket, and what browsers are told about it.

    OPTIONS with Origin and Access-Control-Request-Method   --preflight-->  200 with the first rule that fits, or 403
    any other request with Origin                           --headers_for-->  the headers of the first rule that fits, or none

Source: S3 User Guide, "Using cross-origin resource sharing (CORS)" and "Troubleshooting CORS"; Fetch standard, "CORS protocol".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, find_bucket, get_bucket
from pilvi.services.s3.errors import invalid_request, malformed_xml

ops = Operations()

RULES = 100
BYTES = 64 << 10
"""Source: S3 User Guide, "Elements of a CORS configuration"; AWS counts the document, this server its texts."""
NAMES = 100
"""Headers that one preflight may ask for: rules are compared with each of them, on the event loop."""
METHODS = ("GET", "PUT", "HEAD", "POST", "DELETE")
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"

Headers = list[tuple[str, str]]


@ops
def put_bucket_cors(ctx: Context, req: Mapping[str, Any]) -> None:
    """Set the bucket's cross-origin rules.

    req: Bucket, CORSConfiguration {CORSRules (1-100) [{AllowedOrigins, AllowedMethods, AllowedHeaders, ExposeHeaders,
    MaxAgeSeconds, ID}]}; one '*' in an origin or an allowed header.
    Errors: MalformedXML; InvalidRequest - another method, a second wildcard, one in ExposeHeaders, more than 100 rules.
    Source: S3 API Reference, PutBucketCors.
    """
    rules = req["CORSConfiguration"].get("CORSRules") or []
    if not rules:
        raise malformed_xml()
    if len(rules) > RULES:
        raise invalid_request(f"The number of CORS rules should not exceed allowed limit of {RULES} rules.")
    texts = (text for rule in rules for value in rule.values() if isinstance(value, list) for text in value)
    if sum(len(text) + 1 for text in texts) > BYTES:
        raise malformed_xml()
    for rule in rules:
        check_rule(rule)
    change_bucket(ctx, req["Bucket"], CORS=[dict(rule) for rule in rules])


def check_rule(rule: Mapping[str, Any]) -> None:
    if not rule.get("AllowedMethods") or not rule.get("AllowedOrigins") or len(rule.get("ID") or "") > 255:
        raise malformed_xml()
    for method in rule["AllowedMethods"]:
        if method not in METHODS:
            raise invalid_request(f"Found unsupported HTTP method in CORS config. Unsupported method is {method}")
    for element, member in (("AllowedOrigin", "AllowedOrigins"), ("AllowedHeader", "AllowedHeaders")):
        for value in rule.get(member) or ():
            if value.count("*") > 1:
                raise invalid_request(f'{element} "{value}" can not have more than one wildcard.')
    for value in rule.get("ExposeHeaders") or ():
        if "*" in value:
            raise invalid_request(
                f'ExposeHeader "{value}" contains wildcard. We currently do not support wildcard for ExposeHeader.'
            )


@ops
def get_bucket_cors(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bucket's cross-origin rules.

    Errors: NoSuchCORSConfiguration.
    Source: S3 API Reference, GetBucketCors.
    """
    rules = get_bucket(ctx, req["Bucket"]).value.get("CORS")
    if rules is None:
        raise ServiceError("NoSuchCORSConfiguration", "The CORS configuration does not exist", 404, BucketName=req["Bucket"])
    return {"CORSRules": rules}


@ops
def delete_bucket_cors(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take the rules away; none there is as good.

    Source: S3 API Reference, DeleteBucketCors.
    """
    if "CORS" in get_bucket(ctx, req["Bucket"]).value:
        change_bucket(ctx, req["Bucket"], CORS=None)


# -- what browsers are told -----------------------------------------------------------------------------------------------


async def preflight(ctx: Context, request: Request, params: Mapping[str, str]) -> Response:
    """Whether a page may do what it is about to do. Asked by browsers before the request itself, without a signature.

    Errors: BadRequest - no Origin, no or another method asked for; AccessForbidden - no rule allows it.
    """
    origin = request.headers.get("origin")
    if not origin:
        raise ServiceError("BadRequest", "Insufficient information. Origin request header needed.", 400)
    method = request.headers.get("access-control-request-method")
    if method not in METHODS:
        raise ServiceError("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}", 400)
    wanted = names_in(request.headers.get("access-control-request-headers", ""))
    resource = "OBJECT" if params.get("Key") else "BUCKET"
    bucket = find_bucket(ctx, params.get("Bucket", ""))
    if bucket is None:
        raise forbidden("Bucket not found", method, "BUCKET")
    rules = bucket.value.get("CORS")
    if rules is None:
        raise forbidden("CORS is not enabled for this bucket.", method, resource)
    rule = find_rule(rules, origin, method, wanted) if len(wanted) <= NAMES else None
    if rule is None:
        raise forbidden(
            "This CORS request is not allowed. This is usually because the evalution of Origin, request method / "
            "Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
            method,
            resource,
        )
    headers = [("x-amz-request-id", ctx.request_id), *headers_of(rule, origin, wanted)]
    return Response(200, headers, b"")


def forbidden(why: str, method: str, resource: str) -> ServiceError:
    return ServiceError("AccessForbidden", f"CORSResponse: {why}", 403, Method=method, ResourceType=resource)


def headers_for(bucket: Bucket, request: Request) -> Headers:
    """What an answer says to a page of another origin; nothing where no rule lets the page in."""
    rules = bucket.value.get("CORS")
    if rules is None:
        return []
    origin = request.headers.get("origin", "")
    rule = find_rule(rules, origin, request.method, ())
    return [] if rule is None else headers_of(rule, origin, ())


def find_rule(rules: Iterable[Mapping[str, Any]], origin: str, method: str, headers: Sequence[str]) -> Mapping[str, Any] | None:
    """The first rule that allows all of it."""
    for rule in rules:
        if method in rule["AllowedMethods"] and origin_in(rule, origin) is not None and allows_headers(rule, headers):
            return rule
    return None


def origin_in(rule: Mapping[str, Any], origin: str) -> str | None:
    return next((allowed for allowed in rule["AllowedOrigins"] if is_like(origin, allowed)), None)


def allows_headers(rule: Mapping[str, Any], headers: Sequence[str]) -> bool:
    allowed = [name.lower() for name in rule.get("AllowedHeaders") or ()]
    return all(any(is_like(header, name) for name in allowed) for header in headers)


def is_like(text: str, pattern: str) -> bool:
    if "*" not in pattern:
        return text == pattern
    head, _, tail = pattern.partition("*")
    return len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail)


def names_in(header: str) -> list[str]:
    return [name for part in header.split(",") if (name := part.strip().lower())]


def headers_of(rule: Mapping[str, Any], origin: str, asked: Sequence[str]) -> Headers:
    anyone = origin_in(rule, origin) == "*"
    found: Headers = [
        ("Access-Control-Allow-Origin", "*" if anyone else origin),
        ("Access-Control-Allow-Methods", ", ".join(rule["AllowedMethods"])),
    ]
    if asked:
        found.append(("Access-Control-Allow-Headers", ", ".join(asked)))
    if exposed := rule.get("ExposeHeaders"):
        found.append(("Access-Control-Expose-Headers", ", ".join(exposed)))
    if (age := rule.get("MaxAgeSeconds")) is not None:
        found.append(("Access-Control-Max-Age", str(age)))
    if not anyone:
        found.append(("Access-Control-Allow-Credentials", "true"))
    found.append(("Vary", VARY))
    return found
