"""Secrets Manager's errors by name, in its words.

Source: Secrets Manager API Reference, errors of each operation; wording as quoted in public issue trackers and recordings.
"""

from __future__ import annotations

from pilvi.core.errors import ServiceError


def no_secret() -> ServiceError:
    return ServiceError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")


def no_value(what: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", f"Secrets Manager can't find the specified secret value for {what}")


def marked_for_deletion() -> ServiceError:
    return invalid_request("You can't perform this operation on the secret because it was marked for deletion.")


def exists(name: str) -> ServiceError:
    return ServiceError("ResourceExistsException", f"The operation failed because the secret {name} already exists.")


def token_in_use(token: str, arn: str) -> ServiceError:
    return ServiceError(
        "ResourceExistsException",
        f"You can't use ClientRequestToken {token} because that value is already in use for a version of secret {arn}.",
    )


def invalid_request(message: str) -> ServiceError:
    return ServiceError("InvalidRequestException", message)


def invalid_parameter(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)


def malformed_policy(message: str) -> ServiceError:
    return ServiceError("MalformedPolicyDocumentException", message)


def not_built(what: str) -> ServiceError:
    return ServiceError("NotImplemented", f"{what} is not built into this cloud.", 501)
