"""What is wrong with a signature, in one word, and how each protocol says it.

`AuthError.kind` is ours; `code_for` turns it into the code, message and status that AWS answers for the protocol and
service at hand. The words a single request adds (which region, which header) travel in the error's message, plain and fields.

Sources: S3 API reference "Error responses"; IAM and STS API references "Common errors"; DynamoDB developer guide "Error
handling"; EC2 API reference "Error codes"; recorded answers in public issue trackers where the references are silent
(query and json: 400 for an incomplete signature, rest-json: 403 for everything but the shape of the request).
"""

from __future__ import annotations

from typing import Any, Literal

from pilvi.core.errors import Denied, ServiceError

Kind = Literal[
    "missing_token",
    "unknown_key",
    "bad_token",
    "expired_token",
    "signature",
    "skewed",
    "expired",
    "not_yet_valid",
    "no_date",
    "malformed",
    "malformed_query",
    "unsupported",
    "several",
    "scope",
    "scope_query",
    "wrong_region",
    "unsigned_headers",
    "no_payload_hash",
    "bad_payload_hash",
    "payload_mismatch",
    "bad_digest",
    "incomplete_body",
    "malformed_chunks",
    "malformed_trailer",
]

S3_SERVICES = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts"})
"""Signing names that follow S3's rules: the path is encoded once, every x-amz- header is signed."""

_MISMATCH = "The request signature we calculated does not match the signature you provided. "
_QUERY_MISMATCH = _MISMATCH + "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
_TOKEN_INVALID = "The security token included in the request is invalid."
_TOKEN_EXPIRED = "The security token included in the request is expired"
_EC2_REFUSED = "AWS was not able to validate the provided access credentials"

_S3: dict[str, tuple[str, str, int]] = {
    "missing_token": ("AccessDenied", "Access Denied", 403),
    "unknown_key": ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", 403),
    "bad_token": ("InvalidToken", "The provided token is malformed or otherwise invalid.", 400),
    "expired_token": ("ExpiredToken", "The provided token has expired.", 400),
    "signature": ("SignatureDoesNotMatch", _MISMATCH + "Check your key and signing method.", 403),
    "skewed": ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", 403),
    "expired": ("AccessDenied", "Request has expired", 403),
    "not_yet_valid": ("AccessDenied", "Request is not yet valid", 403),
    "no_date": ("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header", 403),
    "malformed": ("AuthorizationHeaderMalformed", "The authorization header that you provided is not valid.", 400),
    "malformed_query": (
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
    "wrong_region": ("AuthorizationHeaderMalformed", "The authorization header is malformed; the region is wrong", 400),
    "scope_query": (
        "AuthorizationQueryParametersError",
        "Error parsing the X-Amz-Credential parameter; the credential scope is wrong",
        400,
    ),
    "unsigned_headers": ("AccessDenied", "There were headers present in the request which were not signed", 403),
    "no_payload_hash": ("InvalidRequest", "Missing required header for this request: x-amz-content-sha256", 400),
    "bad_payload_hash": (
        "InvalidArgument",
        (
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, "
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
        ),
        400,
    ),
    "payload_mismatch": (
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
        400,
    ),
    "bad_digest": ("BadDigest", "The Content-MD5 you specified did not match what we received.", 400),
    "incomplete_body": (
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
        400,
    ),
    "malformed_chunks": ("InvalidRequest", "The body of the request is not a valid aws-chunked stream.", 400),
    "malformed_trailer": (
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
        400,
    ),
}

_QUERY: dict[str, tuple[str, str, int]] = {
    "missing_token": ("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    "unknown_key": ("InvalidClientTokenId", _TOKEN_INVALID, 403),
    "bad_token": ("InvalidClientTokenId", _TOKEN_INVALID, 403),
    "expired_token": ("ExpiredToken", _TOKEN_EXPIRED, 403),
    "signature": ("SignatureDoesNotMatch", _QUERY_MISMATCH, 403),
    "incomplete": ("IncompleteSignature", "The request signature does not conform to AWS standards.", 400),
}

_JSON: dict[str, tuple[str, str, int]] = {
    "missing_token": ("MissingAuthenticationTokenException", "Missing Authentication Token", 400),
    "unknown_key": ("UnrecognizedClientException", _TOKEN_INVALID, 400),
    "bad_token": ("UnrecognizedClientException", _TOKEN_INVALID, 400),
    "expired_token": ("ExpiredTokenException", _TOKEN_EXPIRED, 400),
    "signature": ("InvalidSignatureException", _QUERY_MISMATCH, 400),
    "incomplete": ("IncompleteSignatureException", "The request signature does not conform to AWS standards.", 400),
}

_EC2: dict[str, tuple[str, str, int]] = {
    "missing_token": ("MissingParameter", "The request must contain the parameter AWSAccessKeyId", 400),
    "unknown_key": ("AuthFailure", _EC2_REFUSED, 401),
    "bad_token": ("AuthFailure", _EC2_REFUSED, 401),
    "expired_token": ("RequestExpired", "Request has expired.", 400),
    "signature": ("AuthFailure", _EC2_REFUSED, 401),
    "incomplete": ("AuthFailure", _EC2_REFUSED, 401),
}

_INCOMPLETE = frozenset({"malformed", "malformed_query", "unsupported", "several", "no_date", "unsigned_headers"})
"""Faults of form: outside S3 they are all an incomplete signature. Every other fault there is a wrong signature."""

_FIELDS = {"access_key_id": "AWSAccessKeyId"}

_TABLES = {"query": _QUERY, "ec2": _EC2}


class AuthError(Denied):
    """A request whose signature is refused. Without a message the protocol's own is shown."""

    def __init__(self, kind: Kind, message: str = "", *, plain: str = "", service: str = "", **fields: Any) -> None:
        """message: S3's sentence. plain: what the other services say. fields: what S3 adds to its error.

        service: the signing name in a claim that could not be read to its end, so that the answer can be in its protocol.
        """
        super().__init__(message, **fields)
        self.kind: Kind = kind
        self.plain = plain
        self.service = service

    def __str__(self) -> str:
        return f"{self.kind}: {self.message or self.plain}".removesuffix(": ")


def wrong_region(region: str, expected: str) -> AuthError:
    """A credential scope whose Region is not the one asked, or none at all."""
    return AuthError(
        "wrong_region",
        f"The authorization header is malformed; the region '{region}' is wrong; expecting '{expected}'",
        plain=f"Credential should be scoped to a valid region, not '{region}'. ",
    )


def code_for(error: AuthError | Kind, protocol: str, service: str) -> tuple[str, str, int]:
    """The code, message and status that a service answers for a fault.

    protocol: botocore's metadata name (query, ec2, json, rest-json, rest-xml, smithy-rpc-v2-cbor). service: its signing name.
    """
    if not isinstance(error, AuthError):
        error = AuthError(error)
    if error.kind == "wrong_region" and not error.message:
        error = wrong_region(str(error.fields.get("region", "")), str(error.fields.get("expected", "")))
    if service in S3_SERVICES:
        code, message, status = _S3[error.kind]
        return code, error.message or message, status
    table = _QUERY if protocol == "rest-xml" else _TABLES.get(protocol, _JSON)
    code, message, status = table.get(error.kind) or table["incomplete" if error.kind in _INCOMPLETE else "signature"]
    if table is not _EC2:  # EC2 never tells what was wrong
        message = error.plain or message
    return code, message, 403 if protocol == "rest-json" else status


def service_error(error: AuthError, protocol: str, service: str) -> ServiceError:
    """The answer to a refused signature, ready to be encoded; only S3 adds fields to its errors."""
    code, message, status = code_for(error, protocol, service)
    if service not in S3_SERVICES:
        return ServiceError(code, message, status)
    fields = {_FIELDS.get(name, name): value for name, value in error.fields.items()}
    return ServiceError(code, message, status, **{name: value for name, value in fields.items() if name[0].isupper()})
