"""SQS's errors, as it words them. Source: SQS API reference, "Errors" of each action; messages as quoted in public issue trackers."""

from __future__ import annotations

from pilvi.core.errors import ServiceError


def no_queue() -> ServiceError:
    return ServiceError("QueueDoesNotExist", "The specified queue does not exist.", 400)


def invalid(message: str) -> ServiceError:
    """A parameter's value makes no sense."""
    return ServiceError("InvalidParameterValue", message, 400)


def bad_value(value: object, parameter: str, reason: str) -> ServiceError:
    return invalid(f"Value {value} for parameter {parameter} is invalid. Reason: {reason}")


def missing(parameter: str) -> ServiceError:
    return ServiceError("MissingParameter", f"The request must contain the parameter {parameter}.", 400)


def bad_attribute(name: str) -> ServiceError:
    return ServiceError("InvalidAttributeValue", f"Invalid value for the parameter {name}.", 400)


def unknown_attribute(name: str) -> ServiceError:
    return ServiceError("InvalidAttributeName", f"Unknown Attribute {name}.", 400)


def bad_handle(handle: str, reason: str = "") -> ServiceError:
    """A receipt handle that none of this queue's receives has given out."""
    if reason:
        return bad_value(handle, "ReceiptHandle", reason)
    return ServiceError("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.', 400)


def not_in_flight(handle: str) -> ServiceError:
    message = f"Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change."
    return ServiceError("MessageNotInflight", message, 400)


def unsupported(message: str) -> ServiceError:
    return ServiceError("UnsupportedOperation", message, 400)


def over_limit(message: str) -> ServiceError:
    return ServiceError("OverLimit", message, 403)


_KMS = {
    "AccessDeniedException": "KmsAccessDenied",
    "NotFoundException": "KmsNotFound",
    "DisabledException": "KmsDisabled",
    "KMSInvalidStateException": "KmsInvalidState",
    "InvalidKeyUsageException": "KmsInvalidKeyUsage",
    "ThrottlingException": "KmsThrottled",
    "OptInRequired": "KmsOptInRequired",
}


def of_kms(error: ServiceError) -> ServiceError:
    """What KMS refused, as SQS tells it."""
    return ServiceError(_KMS.get(error.code, "KmsInvalidState"), error.message, 400)
