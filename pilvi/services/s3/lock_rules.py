"""Object lock as rules over rows: what a new version is locked by, and whether a locked one may go or its lock change.

    row["lock"] = {"mode": "GOVERNANCE", "until": datetime}     row["hold"] = True (legal hold)

Source: S3 User Guide, "Locking objects with Object Lock"; S3 API Reference, PutObjectRetention, PutObject.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.services.s3.errors import access_denied, invalid_argument, invalid_request, malformed_xml

GOVERNANCE, COMPLIANCE = "GOVERNANCE", "COMPLIANCE"
MODES = (GOVERNANCE, COMPLIANCE)
SETTING = "ObjectLockConfiguration"
"""The bucket's setting; its presence means that the bucket has object lock."""

Value = dict[str, Any]


def asked_of(req: Mapping[str, Any]) -> Value:
    """The members of a new row that the x-amz-object-lock headers of a write ask for."""
    row: Value = {}
    mode, until = req.get("ObjectLockMode"), req.get("ObjectLockRetainUntilDate")
    if (mode is None) != (until is None):
        raise invalid_argument(
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            "x-amz-object-lock-mode" if mode is None else "x-amz-object-lock-retain-until-date",
            "null",
        )
    if mode is not None:
        if mode not in MODES:
            raise invalid_argument("Unknown wormMode directive.", "x-amz-object-lock-mode", mode)
        row["lock"] = {"mode": mode, "until": until}
    hold = req.get("ObjectLockLegalHoldStatus")
    if hold is not None:
        if hold not in ("ON", "OFF"):
            raise invalid_argument("Legal hold must be either of 'ON' or 'OFF'", "x-amz-object-lock-legal-hold", hold)
        row["hold"] = hold == "ON"
    return row


def check_asked(settings: Mapping[str, Any], row: Value, now: datetime) -> None:
    """Errors: InvalidRequest - the bucket has no object lock; InvalidArgument - a date that is past."""
    if SETTING not in settings:
        raise missing_configuration()
    if "lock" in row and row["lock"]["until"] <= now:
        raise past_date(row["lock"]["until"])


def missing_configuration() -> ServiceError:
    return invalid_request("Bucket is missing Object Lock Configuration")


def past_date(until: datetime) -> ServiceError:
    return invalid_argument(
        "The retain until date must be in the future!", "x-amz-object-lock-retain-until-date", until.strftime("%Y-%m-%dT%H:%M:%SZ")
    )


def lock_by_default(configuration: Mapping[str, Any], row: Value, now: datetime) -> None:
    """A new version without a lock of its own gets the bucket's."""
    retention = (configuration.get("Rule") or {}).get("DefaultRetention")
    if retention is None or "lock" in row:
        return
    days = retention["Days"] if "Days" in retention else 365 * retention["Years"]
    row["lock"] = {"mode": retention["Mode"], "until": now + timedelta(days=days)}


def checked_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Errors: MalformedXML; InvalidRetentionPeriod - not a positive period."""
    if configuration.get("ObjectLockEnabled") != "Enabled":
        raise malformed_xml()
    kept: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
    if "Rule" not in configuration:
        return kept
    retention = configuration["Rule"].get("DefaultRetention") or {}
    if retention.get("Mode") not in MODES or ("Days" in retention) == ("Years" in retention):
        raise malformed_xml()
    period: int = retention["Days"] if "Days" in retention else retention["Years"]
    if period < 1:
        raise ServiceError("InvalidRetentionPeriod", "Default retention period must be a positive integer value.", 400)
    if period > (36_500 if "Days" in retention else 100):
        raise ServiceError("InvalidRetentionPeriod", "Default retention period is too large.", 400)
    return kept | {"Rule": {"DefaultRetention": dict(retention)}}


# -- what is locked -------------------------------------------------------------------------------------------------------


def is_retained(row: Mapping[str, Any], now: datetime) -> bool:
    lock = row.get("lock")
    return lock is not None and lock["until"] > now


def check_removable(row: Mapping[str, Any], now: datetime, may_bypass: bool) -> None:
    """Errors: AccessDenied - a legal hold, a compliance lock, or a governance lock that is not bypassed."""
    if row.get("hold"):
        raise protected()
    if is_retained(row, now) and not (row["lock"]["mode"] == GOVERNANCE and may_bypass):
        raise protected()


def check_change(row: Mapping[str, Any], wanted: Mapping[str, Any] | None, now: datetime, may_bypass: bool) -> None:
    """Whether a lock may become `wanted` (None: none). Longer in the same mode always goes; less of it needs a bypass."""
    if not is_retained(row, now):
        return
    old = row["lock"]
    if wanted is not None and wanted["mode"] == old["mode"] and wanted["until"] >= old["until"]:
        return
    if old["mode"] == COMPLIANCE or not may_bypass:
        raise protected()


def protected() -> ServiceError:
    return access_denied("Access Denied because object protected by object lock.")


# -- what is told ---------------------------------------------------------------------------------------------------------


def condition_keys(req: Mapping[str, Any], now: datetime) -> dict[str, str]:
    """Condition keys of a write or a change of a lock.

    Source: Service Authorization Reference, condition keys for Amazon S3.
    """
    retention = req.get("Retention") or {}
    mode = req.get("ObjectLockMode") or retention.get("Mode")
    until = req.get("ObjectLockRetainUntilDate") or retention.get("RetainUntilDate")
    hold = req.get("ObjectLockLegalHoldStatus") or (req.get("LegalHold") or {}).get("Status")
    keys: dict[str, str] = {}
    if mode is not None:
        keys["s3:object-lock-mode"] = str(mode)
    if until is not None:
        keys["s3:object-lock-retain-until-date"] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        keys["s3:object-lock-remaining-retention-days"] = str(-(-(until - now) // timedelta(days=1)))
    if hold is not None:
        keys["s3:object-lock-legal-hold"] = str(hold)
    return keys
