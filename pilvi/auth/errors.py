"""What is wrong with a signature, in one word, and how each protocol says it.

`AuthError.kind` is ours; `code_for` turns it into the code, message and status that AWS answers for the protocol and
service at hand. The words a single request adds (which region, which header) travel in `AuthError.message` and `fields`.

Sources: S3 API reference "Error responses"; IAM and STS API references "Common errors"; DynamoDB developer guide "Error
handling"; EC2 API reference "Error codes"; recorded answers in public issue trackers where the references are silent
(query and json: 400 for an incomplete signature, rest-json: 403 for everything but the shape of the request).
"""

from __future__ import annotations

from typing import Any, Literal

from pilvi.core.errors import Denied, ServiceError

Kind = Literal[
    "missing",
    "unknown-key",
    "bad-token",
    "expired-token",
    "signature",
    "skewed",
    "expired",
    "not-yet-valid",
    "no-date",
    "malformed",
    "malformed-query",
    "unsupported",
    "several",
    "scope",
    "scope-query",
    "unsigned-headers",
    "no-payload-hash",
    "bad-payload-hash",
    "payload-hash",
    "bad-digest",
    "incomplete-body",
    "malformed-chunks",
    "malformed-trailer",
]

S3_SERVICES = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts"})
"""Signing names that follow S3's rules: the path is encoded once, every x-amz- header is signed."""

_MISMATCH = "The request signature we calculated does not match the signature you provided. "
_QUERY_MISMATCH = _MISMATCH + "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
_TOKEN_INVALID = "The security token included in the request is invalid."
_TOKEN_EXPIRED = "The security token included in the request is expired"
_EC2_REFUSED = "AWS was not able to validate the provided access credentials"

_S3: dict[str, tuple[str, str, int]] = {
    "missing": ("AccessDenied", "Access Denied", 403),
    "unknown-key": ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", 403),
    "bad-token": ("InvalidToken", "The provided token is malformed or otherwise invalid.", 400),
    "expired-token": ("ExpiredToken", "The provided token has expired.", 400),
    "signature": ("SignatureDoesNotMatch", _MISMATCH + "Check your key and signing method.", 403),
    "skewed": ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", 403),
    "expired": ("AccessDenied", "Request has expired", 403),
    "not-yet-valid": ("AccessDenied", "Request is not yet valid", 403),
    "no-date": ("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header", 403),
    "malformed": ("AuthorizationHeaderMalformed", "The authorization header that you provided is not valid.", 400),
    "malformed-query": (
        "AuthorizationQueryParametersError",
        "The authorization query parameters that you provided are not valid.",
        400,
    ),
    "unsupported": ("InvalidArgument", "Unsupported Authorization Type", 400),
    "several": (
        "InvalidArgument",
        (
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the "
            "Authorization header should be specified"
        ),
        400,
    ),
    "scope": ("AuthorizationHeaderMalformed", "The authorization header is malformed; the credential scope is wrong", 400),
    "scope-query": (
        "AuthorizationQueryParametersError",
        "Error parsing the X-Amz-Credential parameter; the credential scope is wrong",
        400,
    ),
    "unsigned-headers": ("AccessDenied", "There were headers present in the request which were not signed", 403),
    "no-payload-hash": ("InvalidRequest", "Missing required header for this request: x-amz-content-sha256", 400),
    "bad-payload-hash": (
        "InvalidArgument",
        (
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, "
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
        ),
        400,
    ),
    "payload-hash": (
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
        400,
    ),
    "bad-digest": ("BadDigest", "The Content-MD5 you specified did not match what we received.", 400),
    "incomplete-body": (
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
        400,
    ),
    "malformed-chunks": ("InvalidRequest", "The body of the request is not a valid aws-chunked stream.", 400),
    "malformed-trailer": (
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
        400,
    ),
}

_QUERY: dict[str, tuple[str, str, int]] = {
    "missing": ("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    "unknown-key": ("InvalidClientTokenId", _TOKEN_INVALID, 403),
    "bad-token": ("InvalidClientTokenId", _TOKEN_INVALID, 403),
    "expired-token": ("ExpiredToken", _TOKEN_EXPIRED, 403),
    "signature": ("SignatureDoesNotMatch", _QUERY_MISMATCH, 403),
    "incomplete": ("IncompleteSignature", "The request signature does not conform to AWS standards.", 400),
}

_JSON: dict[str, tuple[str, str, int]] = {
    "missing": ("MissingAuthenticationTokenException", "Missing Authentication Token", 400),
    "unknown-key": ("UnrecognizedClientException", _TOKEN_INVALID, 400),
    "bad-token": ("UnrecognizedClientException", _TOKEN_INVALID, 400),
    "expired-token": ("ExpiredTokenException", _TOKEN_EXPIRED, 400),
    "signature": ("InvalidSignatureException", _QUERY_MISMATCH, 400),
    "incomplete": ("IncompleteSignatureException", "The request signature does not conform to AWS standards.", 400),
}

_EC2: dict[str, tuple[str, str, int]] = {
    "missing": ("MissingParameter", "The request must contain the parameter AWSAccessKeyId", 400),
    "unknown-key": ("AuthFailure", _EC2_REFUSED, 401),
    "bad-token": ("AuthFailure", _EC2_REFUSED, 401),
    "expired-token": ("RequestExpired", "Request has expired.", 400),
    "signature": ("AuthFailure", _EC2_REFUSED, 401),
    "incomplete": ("AuthFailure", _EC2_REFUSED, 401),
}

_INCOMPLETE = frozenset({"malformed", "malformed-query", "unsupported", "several", "no-date", "unsigned-headers"})
"""Faults of form: outside S3 they are all an incomplete signature. Every other fault there is a wrong signature."""

_TABLES = {"query": _QUERY, "ec2": _EC2}


class AuthError(Denied):
    """A request whose signature is refused. Without a message the protocol's own is shown."""

    def __init__(self, kind: Kind, message: str = "", **fields: Any) -> None:
        super().__init__(message, **fields)
        self.kind: Kind = kind

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


def code_for(kind: Kind, protocol: str, service: str) -> tuple[str, str, int]:
    """The code, default message and status that a service answers for a kind of fault.

    protocol: botocore's metadata name (query, ec2, json, rest-json, rest-xml, smithy-rpc-v2-cbor). service: its signing name.
    """
    if service in S3_SERVICES:
        return _S3[kind]
    table = _QUERY if protocol == "rest-xml" else _TABLES.get(protocol, _JSON)
    code, message, status = table.get(kind) or table["incomplete" if kind in _INCOMPLETE else "signature"]
    return code, message, 403 if protocol == "rest-json" else status


def service_error(error: AuthError, protocol: str, service: str) -> ServiceError:
    """The answer to a refused signature, ready to be encoded."""
    code, message, status = code_for(error.kind, protocol, service)
    if service not in S3_SERVICES:
        return ServiceError(code, _plain_message(error, code) or message, status)
    fields = {name: value for name, value in error.fields.items() if name != "plain"}
    return ServiceError(code, error.message or message, status, **fields)


def _plain_message(error: AuthError, code: str) -> str:
    """What the services other than S3 say: `plain` where their words differ; EC2 never tells what was wrong."""
    if code in ("AuthFailure", "MissingParameter", "RequestExpired"):
        return ""
    return str(error.fields.get("plain", error.message if error.kind != "signature" else ""))
