"""S3's own errors: the model declares few of them, so code, message and status stand here.

Source: Amazon S3 API Reference, "Error responses", list of error codes; messages as the service words them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    InUse,
    Invalid,
    NotFound,
    PilviError,
    ServiceError,
    Unavailable,
    Unsupported,
)

CODES: dict[type[PilviError], str] = {
    Denied: "AccessDenied",
    Invalid: "InvalidArgument",
    NotFound: "NoSuchKey",
    AlreadyExists: "OperationAborted",
    Conflict: "OperationAborted",
    InUse: "OperationAborted",
    Unavailable: "ServiceUnavailable",
    Unsupported: "NotImplemented",
}
"""What the plain errors of lower rooms are called here."""


def no_such_bucket(name: str) -> ServiceError:
    if name.startswith("arn:"):
        return ServiceError(
            "NoSuchAccessPoint", "The specified accesspoint does not exist", 404, AccessPointName=name.rpartition("/")[2]
        )
    return ServiceError("NoSuchBucket", "The specified bucket does not exist", 404, BucketName=name)


def no_such_key(key: str, headers: Mapping[str, str] | None = None) -> ServiceError:
    return ServiceError("NoSuchKey", "The specified key does not exist.", 404, Key=key, _headers=headers)


def no_such_version(key: str, version_id: str) -> ServiceError:
    return ServiceError("NoSuchVersion", "The specified version does not exist.", 404, Key=key, VersionId=version_id)


def no_such_upload(upload_id: str) -> ServiceError:
    return ServiceError(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
        404,
        UploadId=upload_id,
    )


def access_denied(message: str = "Access Denied") -> ServiceError:
    return ServiceError("AccessDenied", message, 403)


def invalid_argument(message: str, name: str, value: Any) -> ServiceError:
    return ServiceError("InvalidArgument", message, 400, ArgumentName=name, ArgumentValue=str(value))


def invalid_request(message: str) -> ServiceError:
    return ServiceError("InvalidRequest", message, 400)


def precondition_failed(condition: str) -> ServiceError:
    return ServiceError(
        "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412, Condition=condition
    )


def not_modified(etag: str) -> ServiceError:
    return ServiceError("NotModified", "Not Modified", 304, _headers={"ETag": f'"{etag}"'})


def bad_digest(name: str, expected: str = "", calculated: str = "") -> ServiceError:
    if name == "Content-MD5":
        return ServiceError(
            "BadDigest",
            "The Content-MD5 you specified did not match what we received.",
            400,
            ExpectedDigest=expected,
            CalculatedDigest=calculated,
        )
    return ServiceError("BadDigest", f"The {name} you specified did not match the calculated checksum.", 400)


def aborted() -> ServiceError:
    """Somebody else is changing the same thing."""
    return ServiceError(
        "OperationAborted",
        "A conflicting conditional operation is currently in progress against this resource. Please try again.",
        409,
    )


def not_implemented(header: str) -> ServiceError:
    """An honest refusal of something S3 has and this server does not have yet."""
    return ServiceError("NotImplemented", "A header you provided implies functionality that is not implemented", 501, Header=header)


def malformed_xml() -> ServiceError:
    return ServiceError(
        "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema", 400
    )
