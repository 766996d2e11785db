"""EventBridge's errors, as it words them. Source: EventBridge API reference, "Errors" of each action; messages as AWS answered them,
quoted in public test recordings and issue trackers."""

from __future__ import annotations

from pilvi.core.errors import ServiceError


def invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message, 400)


def bad_parameter(name: str, reason: str = "") -> ServiceError:
    return invalid(f"Parameter {name} is not valid." + (f" Reason: {reason}" if reason else ""))


def bad_pattern(message: str) -> ServiceError:
    return ServiceError("InvalidEventPatternException", message, 400)


def not_found(message: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", message, 400)


def no_bus(name: str) -> ServiceError:
    return not_found(f"Event bus {name} does not exist.")


def no_rule(name: str, bus: str) -> ServiceError:
    return not_found(f"Rule {name} does not exist on EventBus {bus}.")


def no_archive(name: str) -> ServiceError:
    return not_found(f"Archive {name} does not exist.")


def no_replay(name: str) -> ServiceError:
    return not_found(f"Replay {name} does not exist.")


def no_connection(name: str) -> ServiceError:
    return not_found(f"Failed to describe the connection(s). Connection '{name}' does not exist.")


def no_destination(name: str) -> ServiceError:
    return not_found(f"Failed to describe the api-destination(s). An api-destination '{name}' does not exist.")


def already(what: str) -> ServiceError:
    return ServiceError("ResourceAlreadyExistsException", f"{what} already exists.", 400)


def too_many() -> ServiceError:
    return ServiceError("LimitExceededException", "The requested resource exceeds the maximum number allowed.", 400)


def is_managed(name: str, by: str) -> ServiceError:
    message = f"Rule {name} is managed by {by} and can only be changed by it, or where Force is given."
    return ServiceError("ManagedRuleException", message, 400)


def busy(what: str) -> ServiceError:
    return ServiceError("ConcurrentModificationException", f"{what} was modified concurrently.", 400)
