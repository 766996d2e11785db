"""What stands on an event that could not be delivered: AWS's message attributes.

Source: EventBridge User Guide, "Using dead-letter queues to process undelivered events in EventBridge".
"""

from __future__ import annotations

import re
from typing import Any, Final

from pilvi.core.errors import Invalid
from pilvi.events.targets import code_of, text_of

_CODES: Final = (
    (r"AccessDenied|NotAuthorized|Authorization|^Denied$|Unauthorized|KmsAccessDenied", "NO_PERMISSIONS"),
    (r"NotExist|NotFound|NonExistent|NoSuch", "NO_RESOURCE"),
    (r"^InvalidJson$", "INVALID_JSON"),
    (r"^(THIRD_ACCOUNT_HOP_DETECTED|THIRD_REGION_HOP_DETECTED|ERROR_FROM_TARGET|CONNECTION_FAILURE|TIMEOUT)$", r""),
    (r"Throttl|TooManyRequests|SlowDown|OverLimit", "THROTTLING"),
    (r"LimitExceeded", "RESOURCE_LIMIT_EXCEEDED"),
    (r"Conflict|Concurrent", "RESOURCE_MODIFICATION_COLLISION"),
    (r"^Invalid|Validation|^Missing|TooLong|TooLarge", "INVALID_PARAMETER"),
    (r"Timeout", "TIMEOUT"),
    (r"^NotImplemented$|^Unsupported", "SDK_CLIENT_ERROR"),
)
_LONGEST: Final = 1024


def code(error: BaseException) -> str:
    """AWS's word for what went wrong."""
    name = "InvalidJson" if isinstance(error, Invalid) else code_of(error)
    for pattern, word in _CODES:
        if re.search(pattern, name):
            return word or name
    return "UNKNOWN"


def attributes_of(rule_arn: str, target_arn: str, error: BaseException, condition: str = "", attempts: int = 0) -> dict[str, Any]:
    """condition: MaximumRetryAttempts or MaximumEventAgeInSeconds, where that ended it."""
    texts = {
        "RULE_ARN": rule_arn,
        "TARGET_ARN": target_arn,
        "ERROR_CODE": code(error),
        "ERROR_MESSAGE": text_of(error)[:_LONGEST],
        "EXHAUSTED_RETRY_CONDITION": condition,
        "RETRY_ATTEMPTS": str(attempts) if condition else "",
    }
    return {name: {"DataType": "String", "StringValue": text} for name, text in texts.items() if text}
