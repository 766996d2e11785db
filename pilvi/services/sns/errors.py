"""SNS's errors, as it words them. Source: SNS API reference, "Errors" of each action; messages as quoted in public issue trackers."""

from __future__ import annotations

from pilvi.core.errors import ServiceError


def invalid(what: str) -> ServiceError:
    """A parameter's value makes no sense. what: the parameter, or `parameter Reason: why`."""
    return ServiceError("InvalidParameterException", f"Invalid parameter: {what}", 400)


def bad_attributes(reason: str) -> ServiceError:
    return invalid(f"Attributes Reason: {reason}")


def bad_value(message: str) -> ServiceError:
    """Of message attributes."""
    return ServiceError("InvalidParameterValueException", message, 400)


def no_topic() -> ServiceError:
    return ServiceError("NotFoundException", "Topic does not exist", 404)


def no_subscription() -> ServiceError:
    return ServiceError("NotFoundException", "Subscription does not exist", 404)


def no_endpoint() -> ServiceError:
    return ServiceError("NotFoundException", "Endpoint does not exist", 404)


def no_application() -> ServiceError:
    return ServiceError("NotFoundException", "PlatformApplication does not exist", 404)


def unauthorized(message: str) -> ServiceError:
    return ServiceError("AuthorizationErrorException", message, 403)


def not_built(what: str) -> ServiceError:
    return ServiceError("NotImplemented", f"{what} not built into this cloud yet.", 501)


def bad_arn(parameter: str, text: str) -> ServiceError:
    """Why a text is no ARN of this service's."""
    elements = len(text.split(":"))
    if elements < 6:
        return invalid(f"{parameter} Reason: An ARN must have at least 6 elements, not {elements}")
    return invalid(parameter)


_KMS = {
    "AccessDeniedException": "KMSAccessDeniedException",
    "NotFoundException": "KMSNotFoundException",
    "DisabledException": "KMSDisabledException",
    "KMSInvalidStateException": "KMSInvalidStateException",
    "ThrottlingException": "KMSThrottlingException",
    "OptInRequired": "KMSOptInRequired",
}


def of_kms(error: ServiceError) -> ServiceError:
    """What KMS refused, as SNS tells it."""
    return ServiceError(_KMS.get(error.code, "KMSInvalidStateException"), error.message, 400)
