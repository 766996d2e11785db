"""POST Object: browsers put objects by forms, under a policy that somebody signed for them.

    form --who signed its policy?--> principal --does the policy allow this form?--> PutObject as that principal

Source: S3 API Reference, "POST Object" and "Creating a POST policy".
Differs: ACL and redirect fields of the first days (`redirect`) are not known.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode
from xml.sax.saxutils import escape

from pilvi.auth.presign import read_post_claim, verify_post_policy
from pilvi.core.errors import ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.principal import ANONYMOUS
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream, Piece
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.errors import access_denied
from pilvi.services.s3.form import Form, read_form

MEMBERS = {
    "cache-control": "CacheControl",
    "content-type": "ContentType",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "acl": "ACL",
    "tagging": "Tagging",
    "x-amz-storage-class": "StorageClass",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-crc32c": "ChecksumCRC32C",
    "x-amz-checksum-crc64nvme": "ChecksumCRC64NVME",
    "x-amz-checksum-sha1": "ChecksumSHA1",
    "x-amz-checksum-sha256": "ChecksumSHA256",
}
"""Form fields as PutObject's members."""

UNCONDITIONAL = frozenset({"policy", "x-amz-signature", "signature", "awsaccesskeyid", "file", "bucket"})
"""Fields that the policy need not speak of."""


async def post_object(ctx: Context, request: Request) -> Response:
    """Store the form's file.

    Errors: AccessDenied - no permission, or the policy has expired or does not allow the form; EntityTooLarge, EntityTooSmall -
    outside its content-length-range; InvalidPolicyDocument; SignatureDoesNotMatch; the errors of form.py and PutObject.
    """
    bucket = bucket_of(request)
    form = await read_form(request.headers.get("content-type", ""), request.body)
    fields = {**form.fields, "bucket": bucket}
    if not fields.get("key"):
        raise ServiceError(
            "InvalidArgument",
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
            400,
        )
    fields["key"] = fields["key"].replace("${filename}", form.filename)
    caller = identify(ctx, fields)
    body = form.file
    if "policy" in fields:
        body = within(body, *check_policy(ctx, fields))
    put = await caller.acall("s3", "PutObject", Bucket=bucket, Key=fields["key"], Body=body, **members_of(form, fields))
    return answer(ctx, fields, put["ETag"])


def bucket_of(request: Request) -> str:
    """Path style names it first in the path, virtual-hosted style in the host."""
    first = unquote(request.raw_path.lstrip("/").partition("/")[0])
    return first or request.host.partition(".")[0]


def identify(ctx: Context, fields: Mapping[str, str]) -> Context:
    """The context of whoever signed the form; of nobody when it is not signed."""
    claim = read_post_claim(fields)
    if claim is None:
        return context_for(ctx, fields, ANONYMOUS, None)
    identity = ctx.cloud.identities.find(claim.access_key_id, claim.session_token)
    if identity is None:
        raise ServiceError(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            403,
            AWSAccessKeyId=claim.access_key_id,
        )
    verify_post_policy(claim, fields.get("policy", ""), identity.secret)
    if identity.expires is not None and identity.expires <= ctx.clock.real_now():
        raise ServiceError("ExpiredToken", "The provided token has expired.", 400)
    if "policy" not in fields:
        raise access_denied()
    return context_for(ctx, fields, replace(identity.principal, access_key_id=claim.access_key_id), identity)


def context_for(ctx: Context, fields: Mapping[str, str], principal: Any, identity: Any) -> Context:
    return Context(
        ctx.cloud,
        principal=principal,
        account=principal.account,
        region=get_bucket(ctx, fields["bucket"]).region,
        service="s3",
        request_id=ctx.request_id,
        source_ip=ctx.source_ip,
        identity=identity,
        secure=ctx.secure,
        user_agent=ctx.user_agent,
    )


# -- the policy -----------------------------------------------------------------------------------------------------------


def check_policy(ctx: Context, fields: Mapping[str, str]) -> tuple[int, int | None]:
    """The sizes the file may have, once every condition holds and every field is spoken of."""
    policy = read_policy(fields["policy"])
    if ctx.clock.real_now() >= policy["expiration"]:
        raise access_denied("Invalid according to Policy: Policy expired.")
    smallest, largest = 0, None
    spoken = set(UNCONDITIONAL)
    for condition in policy["conditions"]:
        operator, name, wanted = condition_of(condition)
        if operator == "content-length-range":
            smallest, largest = int(name), int(wanted)
            continue
        spoken.add(name)
        given = fields.get(name, "")
        holds = given == wanted if operator == "eq" else given.startswith(wanted)
        if not holds:
            raise access_denied(
                f"Invalid according to Policy: Policy Condition failed: {json.dumps([operator, '$' + name, wanted])}"
            )
    for name in fields:
        if name not in spoken and not name.startswith("x-ignore-"):
            raise access_denied(f"Invalid according to Policy: Extra input fields: {name}")
    return smallest, largest


def read_policy(text: str) -> dict[str, Any]:
    try:
        policy = json.loads(base64.b64decode(text, validate=True))
        moment = datetime.fromisoformat(policy["expiration"])
        conditions = list(policy["conditions"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise invalid_policy("Invalid Policy: Invalid JSON.") from None
    return {"expiration": moment if moment.tzinfo else moment.replace(tzinfo=UTC), "conditions": conditions}


def condition_of(condition: Any) -> tuple[str, str, str]:
    """(operator, field in lower case, value) of `{"acl": "private"}`, `["starts-with", "$key", "a/"]` and their like."""
    if isinstance(condition, Mapping) and len(condition) == 1:
        ((name, value),) = condition.items()
        return "eq", str(name).lower(), str(value)
    if isinstance(condition, list) and len(condition) == 3:
        operator, name, value = str(condition[0]).lower(), str(condition[1]), str(condition[2])
        if operator == "content-length-range" and name.isdigit() and value.isdigit():
            return operator, name, value
        if operator in ("eq", "starts-with") and name.startswith("$"):
            return operator, name[1:].lower(), value
    raise invalid_policy("Invalid Policy: Invalid Simple-Condition.")


def invalid_policy(message: str) -> ServiceError:
    return ServiceError("InvalidPolicyDocument", message, 400)


def within(body: ByteStream, smallest: int, largest: int | None) -> ByteStream:
    """The same bytes; reading them fails when they are fewer or more than allowed."""

    async def checked() -> AsyncIterator[Piece]:
        size = 0
        async for piece in body:
            size += len(piece)
            if largest is not None and size > largest:
                raise ServiceError(
                    "EntityTooLarge",
                    "Your proposed upload exceeds the maximum allowed size",
                    400,
                    ProposedSize=str(size),
                    MaxSizeAllowed=str(largest),
                )
            yield piece
        if size < smallest:
            raise ServiceError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                400,
                ProposedSize=str(size),
                MinSizeAllowed=str(smallest),
            )

    return ByteStream(source=checked())


# -- request and answer ---------------------------------------------------------------------------------------------------


def members_of(form: Form, fields: Mapping[str, str]) -> dict[str, Any]:
    members: dict[str, Any] = {member: fields[name] for name, member in MEMBERS.items() if name in fields}
    if form.content_type and "ContentType" not in members:
        members["ContentType"] = form.content_type
    metadata = {name.removeprefix("x-amz-meta-"): value for name, value in fields.items() if name.startswith("x-amz-meta-")}
    if metadata:
        members["Metadata"] = metadata
    return members


def answer(ctx: Context, fields: Mapping[str, str], etag: str) -> Response:
    """204 unless the form asks for a redirect, for 200, or for 201 with a description."""
    bucket, key = fields["bucket"], fields["key"]
    location = f"{ctx.cloud.endpoint}/{bucket}/{quote(key)}"
    headers = [("ETag", etag), ("Location", location), ("x-amz-request-id", ctx.request_id)]
    redirect = fields.get("success_action_redirect", "")
    if redirect.startswith(("http://", "https://")):
        query = urlencode({"bucket": bucket, "key": key, "etag": etag})
        target = f"{redirect}{'&' if '?' in redirect else '?'}{query}"
        return Response(303, [("ETag", etag), ("Location", target), ("x-amz-request-id", ctx.request_id)])
    status = fields.get("success_action_status", "")
    if status == "201":
        parts = {"Location": location, "Bucket": bucket, "Key": key, "ETag": etag}
        inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts.items())
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>{inner}</PostResponse>'
        return Response(201, [*headers, ("Content-Type", "application/xml")], body.encode())
    return Response(200 if status == "200" else 204, headers)
