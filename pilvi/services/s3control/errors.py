"""S3 Control's own errors.

Source: Amazon S3 API Reference, "S3 Control" error responses and "List of error codes".
"""

from __future__ import annotations

from pilvi.core.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    Invalid,
    LimitExceeded,
    NotFound,
    PilviError,
    ServiceError,
    Unavailable,
    Unsupported,
)

CODES: dict[type[PilviError], str] = {
    Denied: "AccessDenied",
    Invalid: "InvalidRequest",
    NotFound: "NoSuchResource",
    AlreadyExists: "BucketAlreadyExists",
    Conflict: "OperationAborted",
    LimitExceeded: "TooManyRequests",
    Unavailable: "ServiceUnavailable",
    Unsupported: "NotImplemented",
}
"""What the plain errors of lower rooms are called here."""


def access_denied(message: str = "Access Denied") -> ServiceError:
    return ServiceError("AccessDenied", message, 403)


def invalid_request(message: str) -> ServiceError:
    return ServiceError("InvalidRequest", message, 400)


def not_implemented(what: str) -> ServiceError:
    """An honest refusal of something S3 Control has and this server does not have yet."""
    return ServiceError("NotImplemented", f"{what} is not built into this cloud yet.", 501)
