"""Signature Version 4: reading what a request claims, and checking it.

    claim = read_claim(request)                      None: nobody signed it
    identity = identities.find(claim.access_key_id)  not our business
    verify(claim, request, identity.secret, now=clock.time_s(), body_hash=None)

Query-string forms and Version 2 are read and checked in `presign`; bodies that are signed piece by piece in `chunked`.
Everything here is a function of its arguments.

Source: IAM User Guide, "AWS Signature Version 4 for API requests"; S3 API reference, "Authenticating requests".
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from pilvi.auth import canonical, presign
from pilvi.auth.claim import STREAMING_MODES, UNSIGNED_PAYLOAD, Claim
from pilvi.auth.errors import S3_SERVICES, AuthError, wrong_region
from pilvi.auth.region import known_region
from pilvi.core.http import Request

__all__ = [
    "MAX_SKEW_S",
    "AuthError",
    "Claim",
    "known_region",
    "read_claim",
    "scope_parts",
    "unknown_region",
    "verify",
    "wrong_service",
]

MAX_SKEW_S = 900
_ALGORITHM = "AWS4-HMAC-SHA256"
_SHA256 = re.compile("[0-9a-f]{64}")
_SIGNATURE_LAST = "Signature="
_Scope = tuple[str, str, str, str, tuple[str, ...]]
_HEADER_MALFORMED = "The authorization header is malformed; "
_CREDENTIAL_FORM = 'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'


def read_claim(request: Request) -> Claim | None:
    """Who a request says has signed it, whichever way; None when it is not signed. AuthError when the claim is malformed."""
    header = request.headers.get("authorization", "")
    has_query = bool(request.query) and presign.is_signed_query(request.query)
    if not header:
        return presign.read_query(request) if has_query else None
    if has_query:
        raise AuthError("several", ArgumentName="Authorization", ArgumentValue=header)
    if header.startswith(_ALGORITHM):
        return _read_header(request, header)
    if header.startswith("AWS "):
        return presign.read_v2_header(request, header)
    if header.startswith("AWS4-"):
        raise AuthError(
            "unsupported",
            plain=f"Unsupported AWS 'algorithm': '{header.partition(' ')[0]}'.",
            ArgumentName="Authorization",
            ArgumentValue=header,
        )
    return None


def _read_header(request: Request, header: str) -> Claim:
    head, last, signature = header.rpartition(_SIGNATURE_LAST)
    if last and signature.isalnum():
        key_id, date, region, service, signed_headers = _read_scope(head)
    else:
        (key_id, date, region, service, signed_headers), signature = _read_parts(header)
    headers = request.headers
    timestamp = headers.get("x-amz-date") or canonical.stamp_of_http_date(headers.get("date", ""))
    payload_hash = headers.get("x-amz-content-sha256", "")
    return Claim(
        "header",
        key_id,
        signature,
        date,
        region,
        service,
        signed_headers,
        timestamp,
        headers.get("x-amz-security-token") or headers.get("x-amz-s3session-token", ""),
        None,
        payload_hash,
        STREAMING_MODES.get(payload_hash, ""),
    )


@lru_cache(maxsize=1024)
def _read_scope(head: str) -> _Scope:
    """All but the signature, which clients send last: the same for every request that a client signs on one day."""
    return scope_parts(head)


def scope_parts(head: str) -> _Scope:
    """(key id, date, Region, service, signed headers) of an Authorization header without its signature. AuthError as read_claim."""
    return _read_parts(f"{head}{_SIGNATURE_LAST}0")[0]


def _read_parts(header: str) -> tuple[_Scope, str]:
    """(key id, date, Region, service, signed headers) and the signature, in whatever order they come."""
    credential = signed = signature = ""
    for part in header[len(_ALGORITHM) :].replace(",", " ").split():
        name, _, value = part.partition("=")
        if name == "Credential":
            credential = value
        elif name == "SignedHeaders":
            signed = value
        elif name == "Signature":
            signature = value
    if not (credential and signed and signature):
        raise _incomplete_header(header, credential, signed, signature)
    scope = credential.split("/")
    if len(scope) != 5 or not scope[0]:
        named = scope[-2] if len(scope) > 2 else ""
        raise AuthError("malformed", _HEADER_MALFORMED + _CREDENTIAL_FORM, plain=_five_elements(credential), service=named)
    key_id, date, region, service, terminator = scope
    if terminator != "aws4_request":
        raise AuthError(
            "scope",
            f'{_HEADER_MALFORMED}incorrect terminal "{terminator}". This endpoint uses "aws4_request".',
            plain=f"Credential should be scoped with a valid terminator: 'aws4_request', not '{terminator}'.",
            service=service,
        )
    return (key_id, date, region, service, tuple(signed.split(";"))), signature


def verify(
    claim: Claim,
    request: Request,
    secret: str,
    *,
    now: datetime | float,
    body_hash: str | None = None,
    host_bucket: str = "",
) -> None:
    """AuthError unless `secret` signed exactly this request, recently enough.

    now: the present instant, aware or in seconds since 1970. body_hash: SHA-256 of the body in hexadecimal; None when the
    body has not been read: then the declared hash is believed here and `chunked.hashed` or `chunked.decoded` hold it to
    that; where none is declared, the body is taken to be empty. host_bucket: the bucket asked for, used where the host begins
    with it (Version 2 signs `/bucket/key` either way).
    """
    now_s = now.timestamp() if isinstance(now, datetime) else now
    if claim.kind[0] == "v":
        presign.verify_v2(claim, request, secret, now_s=now_s, host_bucket=host_bucket)
        return
    _check_time(claim, now_s)
    is_s3 = claim.service in S3_SERVICES
    _check_signed_headers(claim, request, is_s3)
    payload = _payload_of(claim, is_s3, body_hash)
    key = canonical.signing_key(secret, claim.date, claim.region, claim.service)
    without = "X-Amz-Signature" if claim.kind == "query" else None
    path = canonical.s3_path(request.raw_path) if is_s3 else canonical.other_path(request.raw_path)
    query = canonical.query(request.query, without=without)
    expected, to_sign, text = _sign(claim, request, key, path, query, payload)
    if canonical.same(expected, claim.signature):
        return
    if not _signed_literally(claim, request, key, payload, without, is_s3):
        raise mismatch(claim, to_sign, text)


def _check_time(claim: Claim, now_s: float) -> None:
    signed_s = canonical.seconds_of(claim.timestamp)
    if signed_s is None:
        raise AuthError("no_date", plain="Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if claim.timestamp[:8] != claim.date:
        raise _scope_error(
            claim,
            f'Invalid credential date "{claim.date}". This date is not the same as X-Amz-Date: "{claim.timestamp[:8]}".',
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{claim.date}' != "
            f"'{claim.timestamp[:8]}', from '{claim.timestamp}'.",
        )
    if claim.kind == "query":
        presign.check_lifetime(claim, signed_s, now_s, MAX_SKEW_S)
    elif abs(signed_s - now_s) > MAX_SKEW_S:
        raise skewed(claim.timestamp, signed_s, now_s)


def skewed(stamp: str, signed_s: float, now_s: float) -> AuthError:
    """The clocks of caller and server disagree by more than fifteen minutes."""
    now = canonical.stamp_of(now_s)
    if signed_s < now_s:
        plain = f"Signature expired: {stamp} is now earlier than {canonical.stamp_of(now_s - MAX_SKEW_S)} ({now} - 15 min.)"
    else:
        plain = f"Signature not yet current: {stamp} is still later than {canonical.stamp_of(now_s + MAX_SKEW_S)} ({now} + 15 min.)"
    return AuthError(
        "skewed",
        plain=plain,
        RequestTime=stamp,
        ServerTime=canonical.iso_of(now_s),
        MaxAllowedSkewMilliseconds=str(MAX_SKEW_S * 1000),
    )


def _check_signed_headers(claim: Claim, request: Request, is_s3: bool) -> None:
    """Host is always signed; S3 wants every x-amz- header signed, the others the one that names the operation."""
    signed = claim.signed_headers
    if is_s3:
        missing = [name for name in request.headers if name[:6] == "x-amz-" and name not in signed]
    else:
        missing = ["x-amz-target"] if "x-amz-target" in request.headers and "x-amz-target" not in signed else []
    if "host" not in signed:
        missing.append("host")
    if missing:
        name = "'Host' or ':authority'" if "host" in missing else f"'{missing[0]}'"
        plain = f"{name} must be a 'SignedHeader' in the AWS Authorization."
        raise AuthError("unsigned_headers", plain=plain, HeadersNotSigned=", ".join(missing))


def _payload_of(claim: Claim, is_s3: bool, body_hash: str | None) -> str:
    """What stands for the body in the canonical request."""
    declared = claim.payload_hash
    if is_s3:
        if not declared:
            if claim.kind == "query":
                return UNSIGNED_PAYLOAD
            raise AuthError("no_payload_hash")
        if declared == UNSIGNED_PAYLOAD or claim.streaming:
            return declared
        if not is_sha256(declared):
            raise AuthError("bad_payload_hash", ArgumentName="x-amz-content-sha256", ArgumentValue=declared)
        if body_hash is not None and body_hash != declared:
            raise payload_mismatch(declared, body_hash)
        return declared
    if declared == UNSIGNED_PAYLOAD or claim.streaming:
        return declared
    if body_hash is not None:
        return body_hash
    return declared if is_sha256(declared) else canonical.EMPTY_SHA256


def payload_mismatch(declared: str, computed: str) -> AuthError:
    """The body is not the one whose hash was signed."""
    return AuthError("payload_mismatch", ClientComputedContentSHA256=declared, S3ComputedContentSHA256=computed)


def is_sha256(text: str) -> bool:
    """Whether a text has the form of a SHA-256 in lower-case hexadecimal."""
    return _SHA256.fullmatch(text) is not None


def _sign(claim: Claim, request: Request, key: bytes, path: str, query: str, payload: str) -> tuple[str, str, str]:
    """The signature a request should have, what was signed for it, and the canonical request behind that."""
    lines = canonical.headers(claim.signed_headers, request.headers)
    text = f"{request.method}\n{path}\n{query}\n{lines}\n{';'.join(claim.signed_headers)}\n{payload}"
    digest = sha256(canonical.wire_bytes(text)).hexdigest()
    to_sign = f"{_ALGORITHM}\n{claim.timestamp}\n{claim.date}/{claim.region}/{claim.service}/aws4_request\n{digest}"
    return canonical.mac(key, to_sign.encode()).hex(), to_sign, text


def _signed_literally(claim: Claim, request: Request, key: bytes, payload: str, without: str | None, is_s3: bool) -> bool:
    """Whether the client signed its path and query letter by letter as sent, which means the same request."""
    raw_path = request.raw_path or "/"
    path = raw_path if is_s3 else canonical.other_path_as_sent(raw_path)
    query = canonical.query_as_sent(request.query, without=without)
    return canonical.same(_sign(claim, request, key, path, query, payload)[0], claim.signature)


def mismatch(claim: Claim, to_sign: str, text: str = "") -> AuthError:
    """SignatureDoesNotMatch with what S3 tells about it, so that one's own signer can be mended."""
    fields = {
        "AWSAccessKeyId": claim.access_key_id,
        "StringToSign": to_sign,
        "SignatureProvided": claim.signature,
        "StringToSignBytes": _spaced_hex(to_sign),
    }
    if text:
        fields |= {"CanonicalRequest": text, "CanonicalRequestBytes": _spaced_hex(text)}
    return AuthError("signature", **fields)


def _spaced_hex(text: str) -> str:
    return canonical.wire_bytes(text).hex(" ")


# -- faults of the credential scope -------------------------------------------------------------------------------------


def unknown_region(claim: Claim, expecting: str) -> AuthError:
    """The scope names a Region that does not exist (or not the one that was asked)."""
    if claim.kind != "query":
        return wrong_region(claim.region, expecting)
    plain = f"Credential should be scoped to a valid region, not '{claim.region}'. "
    return _scope_error(claim, f"the region '{claim.region}' is wrong; expecting '{expecting}'", plain)


def wrong_service(claim: Claim, expecting: str) -> AuthError:
    """The scope names another service than the one that was asked."""
    return _scope_error(
        claim,
        f'incorrect service "{claim.service}". This endpoint belongs to "{expecting}".',
        f"Credential should be scoped to correct service: '{expecting}'. ",
    )


def _scope_error(claim: Claim, text: str, plain: str) -> AuthError:
    if claim.kind == "query":
        return AuthError("scope_query", f"Error parsing the X-Amz-Credential parameter; {text}", plain=plain)
    return AuthError("scope", _HEADER_MALFORMED + text, plain=plain)


def _incomplete_header(header: str, credential: str, signed: str, signature: str) -> AuthError:
    wanted = (("Credential", credential), ("Signature", signature), ("SignedHeaders", signed))
    sentences = [f"Authorization header requires '{name}' parameter." for name, value in wanted if not value]
    scope = credential.split("/")
    return AuthError(
        "malformed",
        f"{_HEADER_MALFORMED}the authorization header requires three components: Credential, SignedHeaders, and Signature.",
        plain=f"{' '.join(sentences)} Authorization={header}",
        service=scope[3] if len(scope) == 5 else "",
    )


def _five_elements(credential: str) -> str:
    return f"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
