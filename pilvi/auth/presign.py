"""Signatures that travel in a URL, and Signature Version 2, which botocore still makes for S3 in us-east-1.

Reading and checking of lifetimes for Version 4 (its signature itself is checked in `sigv4`), all of Version 2, and the
signature over the policy of a browser form (POST Object).

Source: S3 API reference, "Authenticating requests: using query parameters"; S3 developer guide, "Signing and authenticating
REST requests" (Version 2) and "Authenticating requests in browser-based uploads using POST".
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_plus

from pilvi.auth import canonical
from pilvi.auth.claim import STREAMING_MODES, UNSIGNED_PAYLOAD, Claim
from pilvi.auth.errors import AuthError
from pilvi.core.http import Request

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity

_ALGORITHM = "AWS4-HMAC-SHA256"
_MAX_EXPIRES_S = 604800
_NEEDED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires")

# Query parameters that name a sub-resource or change the answer; Version 2 signs these and no others.
_V2_SIGNED_PARAMETERS = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "defaultObjectAcl",
        "delete",
        "encryption",
        "intelligent-tiering",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "partNumber",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "retention",
        "legal-hold",
        "select",
        "select-type",
        "storageClass",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    ]
)


def is_signed_query(query: str) -> bool:
    """Whether a query string carries a signature or a part of one."""
    if "X-Amz-" in query:
        return "X-Amz-Signature=" in query or "X-Amz-Algorithm=" in query or "X-Amz-Credential=" in query
    return "AWSAccessKeyId=" in query and "Signature=" in query


def read_query(request: Request) -> Claim:
    """The claim of a presigned URL, of either version."""
    parameters = parameters_of(request.query)
    if "X-Amz-Algorithm" not in parameters and "AWSAccessKeyId" in parameters:
        return _read_v2_query(request, parameters)
    return _read_v4_query(request, parameters)


def parameters_of(query: str) -> dict[str, str]:
    """Decoded parameters; of a repeated one the first."""
    out: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if "%" in pair or "+" in pair:
            name, value = unquote_plus(name), unquote_plus(value)
        out.setdefault(name, value)
    return out


# -- making one ---------------------------------------------------------------------------------------------------------


def presigned_url(
    identity: Identity,
    endpoint: str,
    path: str,
    query: str,
    region: str,
    *,
    now_s: float,
    expires_s: int,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> str:
    """A URL of S3 that speaks for `identity` for a while. path and query: percent-encoded.

    headers: besides Host, in lower case; whoever uses the URL must send them.
    """
    stamp = canonical.stamp_of(now_s)
    signed = {"host": endpoint.partition("://")[2], **(headers or {})}
    names = sorted(signed)
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    pairs = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{identity.access_key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": ";".join(names),
    }
    if identity.session_token:
        pairs["X-Amz-Security-Token"] = identity.session_token
    query = "&".join([*([query] if query else []), *(f"{name}={quote(value, safe='')}" for name, value in pairs.items())])
    text = "\n".join(
        [
            method,
            canonical.s3_path(path),
            canonical.query(query),
            canonical.headers(names, signed),
            ";".join(names),
            UNSIGNED_PAYLOAD,
        ]
    )
    to_sign = "\n".join([_ALGORITHM, stamp, scope, sha256(text.encode()).hexdigest()])
    signature = canonical.mac(canonical.signing_key(identity.secret, stamp[:8], region, "s3"), to_sign.encode()).hex()
    return f"{endpoint}{path}?{query}&X-Amz-Signature={signature}"


# -- Version 4 ----------------------------------------------------------------------------------------------------------


def _read_v4_query(request: Request, parameters: Mapping[str, str]) -> Claim:
    if not all(map(parameters.get, _NEEDED)):
        raise _query_error(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, "
            "X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )
    if parameters["X-Amz-Algorithm"] != _ALGORITHM:
        raise _query_error('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256"')
    credential = parameters["X-Amz-Credential"]
    scope = credential.split("/")
    if len(scope) != 5 or not scope[0] or scope[4] != "aws4_request":
        raise AuthError(
            "malformed_query",
            'Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
            plain=f"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'",
        )
    timestamp = parameters["X-Amz-Date"]
    if canonical.seconds_of(timestamp) is None:
        raise _query_error("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    signed_headers = tuple(parameters["X-Amz-SignedHeaders"].split(";"))
    payload_hash = parameters.get("X-Amz-Content-Sha256", "")
    if not payload_hash and "x-amz-content-sha256" in signed_headers:
        payload_hash = request.header("x-amz-content-sha256")
    return Claim(
        "query",
        scope[0],
        parameters["X-Amz-Signature"],
        scope[1],
        scope[2],
        scope[3],
        signed_headers,
        timestamp,
        parameters.get("X-Amz-Security-Token") or parameters.get("X-Amz-S3session-Token", ""),
        _lifetime(parameters["X-Amz-Expires"]),
        payload_hash,
        STREAMING_MODES.get(payload_hash, ""),
    )


def _lifetime(text: str) -> int:
    try:
        seconds = int(text)
    except ValueError:
        raise _query_error("X-Amz-Expires should be a number") from None
    if seconds < 0:
        raise _query_error("X-Amz-Expires must be non-negative")
    if seconds > _MAX_EXPIRES_S:
        raise _query_error(
            f"X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than {_MAX_EXPIRES_S} seconds"
        )
    return seconds


def _query_error(message: str) -> AuthError:
    return AuthError("malformed_query", message)


def check_lifetime(claim: Claim, signed_s: float, now_s: float, skew_s: float) -> None:
    """A presigned URL lives from its date (give or take the clocks) until its date plus X-Amz-Expires."""
    expires_s = claim.expires_s or 0
    if signed_s > now_s + skew_s:
        plain = f"Signature not yet current: {claim.timestamp} is still later than {canonical.stamp_of(now_s + skew_s)}"
        raise AuthError("not_yet_valid", plain=plain, ServerTime=canonical.iso_of(now_s), **{"X-Amz-Date": claim.timestamp})
    if now_s > signed_s + expires_s:
        end = canonical.stamp_of(signed_s + expires_s)
        raise AuthError(
            "expired",
            plain=f"Signature expired: {end} is now earlier than {canonical.stamp_of(now_s)}",
            Expires=canonical.iso_of(signed_s + expires_s),
            ServerTime=canonical.iso_of(now_s),
            **{"X-Amz-Expires": str(expires_s)},
        )


# -- Version 2 ----------------------------------------------------------------------------------------------------------


def _read_v2_query(request: Request, parameters: Mapping[str, str]) -> Claim:
    needed = ("AWSAccessKeyId", "Signature", "Expires")
    if not all(map(parameters.get, needed)):
        raise AuthError(
            "missing_token", "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
        )
    ends = parameters["Expires"]
    if not (ends.isascii() and ends.isdigit() and len(ends) < 20):
        raise AuthError("missing_token", "Invalid date (should be seconds since epoch): " + ends)
    token = parameters.get("x-amz-security-token", "") or request.header("x-amz-security-token")
    return Claim(
        "v2-query", parameters["AWSAccessKeyId"], parameters["Signature"], service="s3", session_token=token, expires_s=int(ends)
    )


def read_v2_header(request: Request, header: str) -> Claim:
    """The claim of `Authorization: AWS key:signature`."""
    key_id, colon, signature = header[4:].strip().rpartition(":")
    if not (colon and key_id and signature):
        raise AuthError(
            "unsupported",
            "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
            ArgumentName="Authorization",
            ArgumentValue=header,
        )
    stamp = request.header("x-amz-date") or request.header("date")
    return Claim(
        "v2-header",
        key_id,
        signature,
        service="s3",
        timestamp=canonical.stamp_of_http_date(stamp) if stamp else "",
        session_token=request.header("x-amz-security-token"),
        payload_hash=request.header("x-amz-content-sha256"),
    )


def verify_v2(claim: Claim, request: Request, secret: str, *, now_s: float, host_bucket: str = "") -> None:
    """AuthError unless `secret` signed exactly this request under Version 2, recently enough."""
    date = _check_v2_time(claim, request, now_s)
    if claim.payload_hash and claim.payload_hash in STREAMING_MODES:
        raise AuthError("bad_payload_hash", ArgumentName="x-amz-content-sha256", ArgumentValue=claim.payload_hash)
    names_bucket = bool(host_bucket) and request.host.startswith(f"{host_bucket}.")
    path = f"/{host_bucket}{request.raw_path}" if names_bucket else request.raw_path
    to_sign = _v2_string(claim, request, date, path)
    if _is_v2_signature(claim, secret, to_sign):
        return
    # botocore signs `/bucket/` where it sends `/bucket`.
    if path.rfind("/") == 0 and _is_v2_signature(claim, secret, _v2_string(claim, request, date, path + "/")):
        return
    raise AuthError(
        "signature",
        AWSAccessKeyId=claim.access_key_id,
        StringToSign=to_sign,
        SignatureProvided=claim.signature,
        StringToSignBytes=canonical.wire_bytes(to_sign).hex(" "),
    )


def _is_v2_signature(claim: Claim, secret: str, to_sign: str) -> bool:
    return canonical.same(v2_signature(secret, canonical.wire_bytes(to_sign)), claim.signature)


def v2_signature(secret: str, text: bytes) -> str:
    """HMAC-SHA1 in base 64."""
    return base64.b64encode(hmac.digest(secret.encode(), text, "sha1")).decode()


def _check_v2_time(claim: Claim, request: Request, now_s: float) -> str:
    """The date line that was signed."""
    if claim.kind == "v2-query":
        ends_s = claim.expires_s or 0
        if now_s > ends_s:
            raise AuthError("expired", Expires=canonical.iso_of(ends_s), ServerTime=canonical.iso_of(now_s))
        return str(ends_s)
    signed_s = canonical.seconds_of(claim.timestamp)
    if signed_s is None:
        raise AuthError("no_date")
    if abs(signed_s - now_s) > 900:
        raise AuthError(
            "skewed", RequestTime=claim.timestamp, ServerTime=canonical.iso_of(now_s), MaxAllowedSkewMilliseconds="900000"
        )
    return "" if "x-amz-date" in request.headers else request.header("date")


def _v2_string(claim: Claim, request: Request, date: str, path: str) -> str:
    headers = dict(request.headers)
    if claim.kind == "v2-query":
        # What a header would say, a presigned URL says in its query.
        for name, value in parameters_of(request.query).items():
            lower = name.lower()
            if lower.startswith("x-amz-") or lower in ("content-md5", "content-type"):
                headers.setdefault(lower, value)
    amz = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers) if name.startswith("x-amz-"))
    resource = path + _v2_parameters(request.query)
    return f"{request.method}\n{headers.get('content-md5', '')}\n{headers.get('content-type', '')}\n{date}\n{amz}{resource}"


def _v2_parameters(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    kept = sorted((name, equals, unquote(value)) for name, equals, value in pairs if name in _V2_SIGNED_PARAMETERS)
    return "?" + "&".join(name + equals + value for name, equals, value in kept) if kept else ""


# -- browser forms ------------------------------------------------------------------------------------------------------


def read_post_claim(fields: Mapping[str, str]) -> Claim | None:
    """The claim of a POST Object form (names in lower case); None when the form is not signed."""
    token = fields.get("x-amz-security-token", "")
    if "x-amz-signature" in fields or "x-amz-credential" in fields:
        scope = fields.get("x-amz-credential", "").split("/")
        if len(scope) != 5 or scope[4] != "aws4_request" or not fields.get("x-amz-signature") or not fields.get("x-amz-date"):
            raise AuthError("malformed", "The authorization fields of the form are malformed.")
        key_id, date, region, service, _ = scope
        return Claim(
            "header", key_id, fields["x-amz-signature"], date, region, service, timestamp=fields["x-amz-date"], session_token=token
        )
    if "awsaccesskeyid" in fields or "signature" in fields:
        return Claim("v2-header", fields.get("awsaccesskeyid", ""), fields.get("signature", ""), service="s3", session_token=token)
    return None


def verify_post_policy(claim: Claim, policy: str, secret: str) -> None:
    """AuthError unless `secret` signed this base-64 policy text. What the policy says is the S3 service's business."""
    if claim.kind == "v2-header":
        expected = v2_signature(secret, policy.encode())
    else:
        key = canonical.signing_key(secret, claim.date, claim.region, claim.service)
        expected = hmac.digest(key, policy.encode(), "sha256").hex()
    if not canonical.same(expected, claim.signature):
        raise AuthError("signature", AWSAccessKeyId=claim.access_key_id, StringToSign=policy, SignatureProvided=claim.signature)
