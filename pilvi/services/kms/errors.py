"""KMS's errors by name, in its words.

Source: KMS API Reference, errors of each operation; wording as quoted in public issue trackers and recordings against AWS.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilvi.core.errors import ServiceError


def no_key(arn: str) -> ServiceError:
    return ServiceError("NotFoundException", f"Key '{arn}' does not exist")


def no_alias(arn: str) -> ServiceError:
    return ServiceError("NotFoundException", f"Alias {arn} is not found.")


def invalid_key_id(text: str) -> ServiceError:
    return ServiceError("NotFoundException", f"Invalid keyId '{text}'")


def invalid_arn(text: str) -> ServiceError:
    return ServiceError("InvalidArnException", f"{text} is not a valid ARN")


def other_region(region: str) -> ServiceError:
    """A key's ARN that names another Region than the one that was asked."""
    return ServiceError("NotFoundException", f"Invalid arn {region}")


def disabled(arn: str) -> ServiceError:
    return ServiceError("DisabledException", f"{arn} is disabled.")


def invalid_state(arn: str, words: str) -> ServiceError:
    return ServiceError("KMSInvalidStateException", f"{arn} is {words}.")


def wrong_usage(arn: str, usage: str, operation: str) -> ServiceError:
    return ServiceError("InvalidKeyUsageException", f"{arn} key usage is {usage} which is not valid for {operation}.")


def wrong_algorithm(spec: str, algorithm: str) -> ServiceError:
    return ServiceError("InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {spec}.")


def invalid_ciphertext() -> ServiceError:
    return ServiceError("InvalidCiphertextException", "")


def incorrect_key() -> ServiceError:
    return ServiceError(
        "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."
    )


def unknown_ciphertext_key() -> ServiceError:
    """Said of a key that is not there and of one the caller may not use: nothing leaks."""
    return ServiceError(
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
        "or you are not allowed to access.",
    )


def validation(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)


def not_one_of(value: object, member: str, allowed: Sequence[str]) -> ServiceError:
    return validation(
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: "
        f"Member must satisfy enum value set: [{', '.join(allowed)}]"
    )


def unsupported(message: str) -> ServiceError:
    return ServiceError("UnsupportedOperationException", message)


def invalid_grant_id() -> ServiceError:
    return ServiceError("InvalidGrantIdException", "")


def dry_run() -> ServiceError:
    return ServiceError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


def malformed_policy(message: str) -> ServiceError:
    return ServiceError("MalformedPolicyDocumentException", message)


def limit_exceeded(message: str) -> ServiceError:
    return ServiceError("LimitExceededException", message)


def tag_error(message: str) -> ServiceError:
    return ServiceError("TagException", message)
