"""What the function of an Object Lambda access point is told: the event, and the URL that speaks for the caller.

Source: S3 User Guide, "Event context format and usage", "Writing Lambda functions for S3 Object Lambda Access Points".
Differs: `userRequest.url` is always in the form of the access point's own host, however the client wrote it; header names are in
title case, because the case they came in is not kept; `inputS3Url` is at this server's endpoint, under the access point's alias.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from pilvi.auth.identity import Identity
from pilvi.auth.presign import presigned_url
from pilvi.core.service import Context
from pilvi.services.s3.access import AS_SENT
from pilvi.services.s3.catalog import Lens

URL_S = 61
"""How long the URL is good: as long as a function may take, and a second."""
SIGNED = {"x-amz-request-payer": "RequestPayer", "x-amz-expected-bucket-owner": "ExpectedBucketOwner"}
"""Headers that the URL is signed with when the client sent them."""
LISTING = {
    "Delimiter": "delimiter",
    "EncodingType": "encoding-type",
    "MaxKeys": "max-keys",
    "Prefix": "prefix",
    "Marker": "marker",
    "ContinuationToken": "continuation-token",
    "FetchOwner": "fetch-owner",
    "StartAfter": "start-after",
}
CONTEXTS = {
    "GetObject": "getObjectContext",
    "HeadObject": "headObjectContext",
    "ListObjects": "listObjectsContext",
    "ListObjectsV2": "listObjectsV2Context",
}
SECRET_HEADERS = frozenset({"authorization", "x-amz-security-token", "x-amz-s3session-token"})
TYPES = {
    "root": "Root",
    "user": "IAMUser",
    "assumed-role": "AssumedRole",
    "federated-user": "FederatedUser",
    "service": "AWSService",
}


def event_of(
    ctx: Context, me: Identity, lens: Lens, operation: str, req: Mapping[str, Any], output: Mapping[str, str]
) -> dict[str, Any]:
    """me: the caller, as Object Lambda goes on for it. output: where a GetObject's answer goes."""
    return {
        "xAmzRequestId": ctx.request_id,
        CONTEXTS[operation]: {"inputS3Url": input_url(ctx, me, lens, operation, req), **output},
        "configuration": {
            "accessPointArn": lens.arn,
            "supportingAccessPointArn": lens.supporting,
            "payload": lens.functions[operation][1],
        },
        "userRequest": {"url": user_url(lens, req), "headers": user_headers(lens, req)},
        "userIdentity": user_identity(ctx),
        "protocolVersion": "1.00",
    }


def input_url(ctx: Context, me: Identity, lens: Lens, operation: str, req: Mapping[str, Any]) -> str:
    """The same read through the supporting access point, without Range and partNumber: those are the function's business."""
    path, query = f"/{lens.supporting_alias}", ""
    if "Key" in req:
        path += "/" + quote(req["Key"], safe="/~")
        if "VersionId" in req:
            query = f"versionId={quote(req['VersionId'], safe='')}"
    else:
        pairs = {"list-type": "2"} if operation == "ListObjectsV2" else {}
        pairs |= {name: text_of(req[member]) for member, name in LISTING.items() if member in req}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs.items())
    return presigned_url(
        me,
        ctx.cloud.endpoint,
        path,
        query,
        ctx.region,
        now_s=ctx.clock.real_s(),
        expires_s=URL_S,
        method="HEAD" if operation == "HeadObject" else "GET",
        headers={name: str(req[member]) for name, member in SIGNED.items() if member in req},
    )


def text_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def host_of(lens: Lens) -> str:
    return f"{lens.name}-{lens.account}.s3-object-lambda.{lens.arn.split(':')[3]}.amazonaws.com"


def user_url(lens: Lens, req: Mapping[str, Any]) -> str:
    """Decoded, and without what signs it."""
    request = req.get(AS_SENT)
    pairs = request.query.split("&") if request is not None and request.query else []
    kept = "&".join(unquote(pair) for pair in pairs if not is_signature(pair.partition("=")[0].lower()))
    return f"https://{host_of(lens)}/{req.get('Key', '')}{'?' if kept else ''}{kept}"


def is_signature(name: str) -> bool:
    return name.startswith("x-amz-") and name[6:] in (
        "algorithm",
        "credential",
        "date",
        "expires",
        "signedheaders",
        "signature",
        "security-token",
        "content-sha256",
    )


def user_headers(lens: Lens, req: Mapping[str, Any]) -> dict[str, str]:
    request = req.get(AS_SENT)
    found = request.headers if request is not None else {}
    headers = {name.title().replace("Sha256", "SHA256"): value for name, value in found.items() if name not in SECRET_HEADERS}
    return {**headers, "Host": host_of(lens)}


def user_identity(ctx: Context) -> dict[str, Any]:
    who = ctx.principal
    found: dict[str, Any] = {
        "type": TYPES.get(who.kind, "AWSAccount"),
        "principalId": who.user_id,
        "arn": who.arn,
        "accountId": who.account,
        "accessKeyId": who.access_key_id,
    }
    if who.kind == "user":
        found["userName"] = who.name
    if who.kind == "service":
        found["invokedBy"] = who.name
    if who.kind == "assumed-role":
        issued = ctx.identity.issued if ctx.identity is not None else None
        found["sessionContext"] = {
            "attributes": {"mfaAuthenticated": "false", "creationDate": date_of(issued)},
            "sessionIssuer": {
                "type": "Role",
                "principalId": who.user_id.partition(":")[0],
                "arn": who.issuer_arn,
                "accountId": who.account,
                "userName": who.issuer_arn.rpartition("/")[2],
            },
        }
    return found


def date_of(instant: datetime | None) -> str:
    """`Wed Mar 10 23:41:52 UTC 2021`"""
    return instant.astimezone(UTC).strftime("%a %b %d %H:%M:%S UTC %Y") if instant is not None else ""
