"""POST Object: browsers put objects by forms, under a policy that somebody signed for them.

    form --who signed its policy?--> principal --does the policy allow this form?--> PutObject as that principal

Source: S3 API Reference, "POST Object" and "Creating a POST policy".
Refusals word what is wrong as the service does; those about the form's own fields come before those about its policy.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree.ElementTree import ParseError, fromstring
from xml.sax.saxutils import escape

from pilvi.auth.claim import FORM, Claim
from pilvi.auth.presign import read_post_claim, verify_post_policy
from pilvi.core.errors import ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.principal import ANONYMOUS
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream, Piece
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.errors import access_denied, invalid_argument, malformed_xml
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
    "x-amz-server-side-encryption-context": "SSEKMSEncryptionContext",
    "x-amz-server-side-encryption-bucket-key-enabled": "BucketKeyEnabled",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-server-side-encryption-customer-key": "SSECustomerKey",
    "x-amz-server-side-encryption-customer-key-md5": "SSECustomerKeyMD5",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-crc32c": "ChecksumCRC32C",
    "x-amz-checksum-crc64nvme": "ChecksumCRC64NVME",
    "x-amz-checksum-sha1": "ChecksumSHA1",
    "x-amz-checksum-sha256": "ChecksumSHA256",
}
"""Form fields as PutObject's members."""

_EXPIRATION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
UNCONDITIONAL = frozenset({"policy", "x-amz-signature", "signature", "awsaccesskeyid", "file"})
"""Fields that the policy need not speak of."""

EXACT = frozenset({"bucket", "success_action_status", "policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date"})
"""Fields that only an exact condition may speak of. Source: S3 API Reference, "Creating a POST policy", conditions."""


async def post_object(ctx: Context, request: Request, params: Mapping[str, str]) -> Response:
    """Store the form's file.

    Errors: AccessDenied - no permission, or the policy has expired or does not allow the form; EntityTooLarge, EntityTooSmall -
    outside its content-length-range; InvalidPolicyDocument; SignatureDoesNotMatch; the errors of form.py and PutObject.
    """
    bucket = params["Bucket"]
    form = await read_form(request.headers.get("content-type", ""), request.body)
    fields = {**form.fields, "bucket": bucket}
    if not fields.get("key"):
        raise missing_field("key")
    fields["key"] = fields["key"].replace("${filename}", form.filename)
    caller = identify(ctx, fields)
    body = form.file
    if "policy" in fields:
        body = within(body, *check_policy(ctx, fields))
    put = await caller.acall("s3", "PutObject", Bucket=bucket, Key=fields["key"], Body=body, **members_of(form, fields))
    return answer(ctx, fields, put["ETag"])


def missing_field(name: str) -> ServiceError:
    return ServiceError(
        "InvalidArgument",
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields.",
        400,
        ArgumentName=name,
        ArgumentValue="",
    )


SIGNING = (
    ("x-amz-signature", ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "policy")),
    ("signature", ("awsaccesskeyid", "signature", "policy")),
)
"""What a signed form has, by Version."""
WRITTEN = {"awsaccesskeyid": "AWSAccessKeyId", "signature": "Signature"}


def check_signing_fields(fields: Mapping[str, str]) -> None:
    """A form is signed in full or not at all."""
    if not any(name in fields for _, names in SIGNING for name in names):
        return
    is_new = any(name in fields for name in SIGNING[0][1] if name != "policy")
    for name in SIGNING[0 if is_new else 1][1]:
        if not fields.get(name):
            raise missing_field(WRITTEN.get(name, name))
    if is_new and fields["x-amz-algorithm"] != "AWS4-HMAC-SHA256":
        raise invalid_argument('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"', "x-amz-algorithm", fields["x-amz-algorithm"])


def identify(ctx: Context, fields: Mapping[str, str]) -> Context:
    """The context of whoever signed the form; of nobody when it is not signed."""
    check_signing_fields(fields)
    claim = read_post_claim(fields)
    if claim is None:
        return context_for(ctx, fields, ANONYMOUS, None, None)
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
    principal = replace(identity.principal, access_key_id=claim.access_key_id)
    return context_for(ctx, fields, principal, identity, claim._replace(service=FORM))


def context_for(ctx: Context, fields: Mapping[str, str], principal: Any, identity: Any, claim: Claim | None) -> Context:
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
        claim=claim,
        tls=ctx.tls,
        vpce=ctx.vpce,
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
            smallest, largest = max(smallest, int(name)), int(wanted) if largest is None else min(largest, int(wanted))
            continue
        spoken.add(name)
        if not holds(operator, name, wanted, fields.get(name, "")):
            raise condition_failed([operator, f"${name}", wanted])
    for name in fields:
        if name not in spoken and not name.startswith("x-ignore-"):
            raise access_denied(f"Invalid according to Policy: Extra input fields: {name}")
    return smallest, largest


def holds(operator: str, name: str, wanted: str, given: str) -> bool:
    """A content type may be a list: every member must begin as wanted."""
    if operator == "eq":
        return given == wanted
    if name in EXACT:
        return False
    members = given.split(",") if name == "content-type" else [given]
    return all(member.strip().startswith(wanted) if len(members) > 1 else member.startswith(wanted) for member in members)


def condition_failed(condition: Any) -> ServiceError:
    return access_denied(f"Invalid according to Policy: Policy Condition failed: {json.dumps(condition)}")


def read_policy(text: str) -> dict[str, Any]:
    """The policy's end and its conditions.

    Errors: InvalidPolicyDocument - no JSON, or one of both is missing or makes no sense.
    """
    try:
        policy = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise invalid_policy("Invalid Policy: Invalid JSON.") from None
    if not isinstance(policy, dict):
        raise invalid_policy("Invalid Policy: Invalid JSON.")
    for name in ("expiration", "conditions"):
        if name not in policy:
            raise invalid_policy(f"Invalid Policy: Policy missing {name}.")
    try:
        if not _EXPIRATION.fullmatch(policy["expiration"]):
            raise ValueError
        moment = datetime.fromisoformat(policy["expiration"])
    except (TypeError, ValueError):
        raise invalid_policy(f"Invalid Policy: Invalid 'expiration' value: '{policy['expiration']}'") from None
    if not isinstance(policy["conditions"], list):
        raise invalid_policy("Invalid Policy: Invalid 'conditions' value: must be a List.")
    return {"expiration": moment if moment.tzinfo else moment.replace(tzinfo=UTC), "conditions": policy["conditions"]}


def condition_of(condition: Any) -> tuple[str, str, str]:
    """(operator, field in lower case, value) of `{"acl": "private"}`, `["starts-with", "$key", "a/"]` and their like.

    Errors: InvalidPolicyDocument; AccessDenied - a condition that S3 cannot read fails.
    """
    if isinstance(condition, Mapping):
        if len(condition) != 1:
            raise invalid_policy(
                "Invalid Policy: Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."
            )
        ((name, value),) = condition.items()
        if not isinstance(value, str):
            raise invalid_policy("Invalid Policy: Invalid Simple-Condition: value must be a string.")
        return "eq", str(name).lower(), value
    if not isinstance(condition, list) or not condition:
        raise invalid_policy("Invalid Policy: Invalid Condition.")
    operator = str(condition[0]).lower()
    if operator == "content-length-range":
        return operator, *size_range_of(condition)
    if len(condition) != 3 or not all(isinstance(part, str) for part in condition):
        raise condition_failed(condition)
    if operator not in ("eq", "starts-with") or not condition[1].startswith("$"):
        raise condition_failed(condition)
    return operator, condition[1][1:].lower(), condition[2]


def size_range_of(condition: list[Any]) -> tuple[str, str]:
    sizes = [str(size) for size in condition[1:]]
    if len(sizes) != 2 or not all(size.isascii() and size.isdigit() for size in sizes):
        raise invalid_policy("Invalid Policy: Invalid content-length-range condition: must be two non-negative integers.")
    return sizes[0], sizes[1]


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


def tags_of_field(text: str) -> str:
    """`<Tagging><TagSet><Tag>...` as PutObject's header has it.

    Errors: MalformedXML - it is no such document.
    Source: S3 API Reference, POST Object, form field "tagging".
    """
    try:
        root = fromstring(text)
    except ParseError:
        raise malformed_xml() from None
    found = [{part.tag.rpartition("}")[2]: part.text or "" for part in tag} for tag in root.iterfind("./{*}TagSet/{*}Tag")]
    if root.tag.rpartition("}")[2] != "Tagging" or any("Key" not in tag for tag in found):
        raise malformed_xml()
    return urlencode([(tag["Key"], tag.get("Value", "")) for tag in found])


def members_of(form: Form, fields: Mapping[str, str]) -> dict[str, Any]:
    members: dict[str, Any] = {member: fields[name] for name, member in MEMBERS.items() if name in fields}
    if form.content_type and "ContentType" not in members:
        members["ContentType"] = form.content_type
    metadata = {name.removeprefix("x-amz-meta-"): value for name, value in fields.items() if name.startswith("x-amz-meta-")}
    if metadata:
        members["Metadata"] = metadata
    if "Tagging" in members:
        members["Tagging"] = tags_of_field(members["Tagging"])
    if "BucketKeyEnabled" in members:
        members["BucketKeyEnabled"] = members["BucketKeyEnabled"].lower() == "true"
    return members


def answer(ctx: Context, fields: Mapping[str, str], etag: str) -> Response:
    """204 unless the form asks for a redirect, for 200, or for 201 with a description."""
    bucket, key = fields["bucket"], fields["key"]
    location = f"{ctx.cloud.endpoint}/{bucket}/{quote(key)}"
    headers = [("ETag", etag), ("Location", location), ("x-amz-request-id", ctx.request_id)]
    redirect = fields.get("success_action_redirect") or fields.get("redirect", "")
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
