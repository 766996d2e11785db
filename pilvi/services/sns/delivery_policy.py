"""How long a delivery is tried: the phases of AWS's retry policies, and the policies people set for HTTP. Pure.

    immediate (no delay)  ->  pre-backoff (the least delay)  ->  backoff (from the least to the most)  ->  post-backoff (the most)

Source: SNS developer guide, "Amazon SNS message delivery retries" and "Creating an HTTP/S delivery policy". AWS does not tell the
formulas of its backoff functions; here they run from the least to the most delay, each steeper at its end than the one before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pilvi.services.sns.errors import invalid

MOST_DELAY_S: Final = 3600
MOST_RETRIES: Final = 100
MOST_TOTAL_S: Final = 3600.0
"""Of all retries of a policy for HTTP together."""
CONTENT_TYPE: Final = "text/plain; charset=UTF-8"
_CONTENT_TYPES: Final = frozenset(
    {
        "application/atom+xml",
        "application/json",
        "application/octet-stream",
        "application/soap+xml",
        "application/x-www-form-urlencoded",
        "application/xhtml+xml",
        "application/xml",
        "text/css",
        "text/csv",
        "text/html",
        "text/plain",
        "text/xml",
    }
)
_FUNCTIONS: Final = ("linear", "arithmetic", "geometric", "exponential")
_COUNTS: Final = ("numNoDelayRetries", "numMinDelayRetries", "numMaxDelayRetries")
_RETRY_DEFAULTS: Final[Mapping[str, Any]] = {
    "minDelayTarget": 20,
    "maxDelayTarget": 20,
    "numRetries": 3,
    "numMaxDelayRetries": 0,
    "numNoDelayRetries": 0,
    "numMinDelayRetries": 0,
    "backoffFunction": "linear",
}


class Phases(NamedTuple):
    """When a failed delivery is tried again."""

    immediate: int
    pre: int
    backoff: int
    post: int
    least_s: float
    most_s: float
    function: str = "exponential"

    def delay_s(self, tries: int) -> float | None:
        """How long to wait after so many retries; None when there are no more."""
        if tries < self.immediate:
            return 0.0
        tries -= self.immediate
        if tries < self.pre:
            return self.least_s
        tries -= self.pre
        if tries < self.backoff:
            return self._between((tries + 1) / self.backoff)
        return self.most_s if tries - self.backoff < self.post else None

    def _between(self, part: float) -> float:
        if self.function == "exponential":
            return float(self.least_s * (self.most_s / self.least_s) ** part)
        power = {"linear": 1, "arithmetic": 2, "geometric": 3}[self.function]
        return float(self.least_s + (self.most_s - self.least_s) * part**power)


MANAGED: Final = Phases(3, 2, 10, 100_000, 1.0, 20.0)
"""AWS's own endpoints: 100,015 retries over 23 days."""
UNMANAGED: Final = Phases(0, 2, 10, 38, 10.0, 600.0)
"""Mail, text messages, mobile push: 50 retries over 6 hours."""


# -- policies for HTTP --------------------------------------------------------------------------------------------------------


def checked_topic_policy(text: str) -> str:
    """A topic's DeliveryPolicy in one form. InvalidParameter."""
    found = _object(text)
    _known(found, {"http", "https"})
    for name, http in found.items():
        _known(
            http,
            {"defaultHealthyRetryPolicy", "disableSubscriptionOverrides", "defaultThrottlePolicy", "defaultRequestPolicy"},
            f"{name} ",
        )
        _check_parts(http, "default")
        if not isinstance(http.get("disableSubscriptionOverrides", False), bool):
            raise _bad("disableSubscriptionOverrides must be true or false")
    return json.dumps(found, separators=(",", ":"))


def checked_subscription_policy(text: str) -> str:
    """A subscription's DeliveryPolicy in one form. InvalidParameter."""
    found = _object(text)
    _known(found, {"healthyRetryPolicy", "throttlePolicy", "requestPolicy", "sicklyRetryPolicy", "guaranteed"})
    if found.get("sicklyRetryPolicy") is not None:
        raise _bad("sicklyRetryPolicy is not supported")
    _check_parts(found, "")
    return json.dumps(found, separators=(",", ":"))


def _check_parts(policy: Mapping[str, Any], prefix: str) -> None:
    def part(name: str) -> Mapping[str, Any] | None:
        found = policy.get(f"{prefix}{name[0].upper()}{name[1:]}" if prefix else name)
        if found is not None and not isinstance(found, dict):
            raise _bad(f"{name} must be an object")
        return found

    if (retry := part("healthyRetryPolicy")) is not None:
        _check_retry(retry)
    if (throttle := part("throttlePolicy")) is not None:
        _known(throttle, {"maxReceivesPerSecond"}, "throttlePolicy ")
        most = throttle.get("maxReceivesPerSecond")
        if most is not None and (type(most) is not int or most < 1):
            raise _bad("throttlePolicy.maxReceivesPerSecond must be an integer of 1 or more")
    if (request := part("requestPolicy")) is not None:
        _known(request, {"headerContentType"}, "requestPolicy ")
        kind = request.get("headerContentType", CONTENT_TYPE)
        if not isinstance(kind, str) or kind.partition(";")[0].strip().lower() not in _CONTENT_TYPES:
            raise _bad("requestPolicy.headerContentType is not supported")


def _check_retry(given: Mapping[str, Any]) -> None:
    _known(given, set(_RETRY_DEFAULTS), "healthyRetryPolicy ")
    policy = {**_RETRY_DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
    for name in (*_COUNTS, "numRetries", "minDelayTarget", "maxDelayTarget"):
        if type(policy[name]) is not int or policy[name] < 0:
            raise _bad(f"healthyRetryPolicy.{name} must be a non-negative integer")
    if not 1 <= policy["minDelayTarget"] <= policy["maxDelayTarget"] <= MOST_DELAY_S:
        raise _bad(
            "healthyRetryPolicy.minDelayTarget must be at least 1 and at most maxDelayTarget, "
            f"and maxDelayTarget must be less than or equal to {MOST_DELAY_S}"
        )
    if policy["numRetries"] > MOST_RETRIES:
        raise _bad(f"healthyRetryPolicy.numRetries must be less than or equal to {MOST_RETRIES}")
    if sum(policy[name] for name in _COUNTS) > policy["numRetries"]:
        raise _bad("healthyRetryPolicy.numRetries must be at least the sum of the retries of its phases")
    if policy["backoffFunction"] not in _FUNCTIONS:
        raise _bad(f"healthyRetryPolicy.backoffFunction must be one of {', '.join(_FUNCTIONS)}")
    phases = _phases(policy)
    if sum(phases.delay_s(tries) or 0.0 for tries in range(policy["numRetries"])) > MOST_TOTAL_S:
        raise _bad(f"healthyRetryPolicy: the total retry time must be less than or equal to {MOST_TOTAL_S:g} seconds")


class HttpPolicy(NamedTuple):
    """What counts for one subscription."""

    phases: Phases
    most_a_second: int
    """0: as many as there are."""
    content_type: str
    shown: Mapping[str, Any]


def effective(topic_text: str, subscription_text: str) -> HttpPolicy:
    """The policies of topic and subscription, one laid over the other."""
    topic = _topic_part(topic_text)
    own = {} if topic.get("disableSubscriptionOverrides") or not subscription_text else json.loads(subscription_text)

    def part(name: str) -> dict[str, Any]:
        return {**(topic.get(f"default{name[0].upper()}{name[1:]}") or {}), **(own.get(name) or {})}

    retry = {**_RETRY_DEFAULTS, **part("healthyRetryPolicy")}
    throttle, request = part("throttlePolicy"), part("requestPolicy")
    content_type = request.get("headerContentType") or CONTENT_TYPE
    shown = {
        "healthyRetryPolicy": retry,
        "sicklyRetryPolicy": None,
        "throttlePolicy": throttle or None,
        "requestPolicy": {"headerContentType": content_type},
        "guaranteed": False,
    }
    return HttpPolicy(_phases(retry), throttle.get("maxReceivesPerSecond") or 0, content_type, shown)


def effective_of_topic(topic_text: str) -> dict[str, Any]:
    """What GetTopicAttributes tells."""
    topic = _topic_part(topic_text)
    found: dict[str, Any] = {
        "defaultHealthyRetryPolicy": {**_RETRY_DEFAULTS, **(topic.get("defaultHealthyRetryPolicy") or {})},
        "disableSubscriptionOverrides": bool(topic.get("disableSubscriptionOverrides")),
        "defaultRequestPolicy": topic.get("defaultRequestPolicy") or {"headerContentType": CONTENT_TYPE},
    }
    if topic.get("defaultThrottlePolicy"):
        found["defaultThrottlePolicy"] = topic["defaultThrottlePolicy"]
    return {"http": found}


def _topic_part(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(text).get("http") or {} if text else {}
    return found


def _phases(retry: Mapping[str, Any]) -> Phases:
    immediate, pre, post = (retry[name] for name in _COUNTS)
    backoff = retry["numRetries"] - immediate - pre - post
    return Phases(immediate, pre, backoff, post, retry["minDelayTarget"], retry["maxDelayTarget"], retry["backoffFunction"])


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _bad("failed to parse JSON.")
    return found


def _known(given: Any, names: set[str], where: str = "") -> None:
    if not isinstance(given, dict):
        raise _bad(f"{where}must be an object")
    for name in given:
        if name not in names:
            raise _bad(f"{where}has unexpected JSON member: {name}")


def _bad(reason: str) -> Exception:
    return invalid(f"DeliveryPolicy: {reason}")
