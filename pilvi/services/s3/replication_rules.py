"""Which replication rule is for an object: pure look-ups in a bucket's ReplicationConfiguration, as PutBucketReplication keeps it.

Source: S3 User Guide, "Replication configuration file elements"; S3 API Reference, ReplicationRule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PENDING, COMPLETED, FAILED, REPLICA = "PENDING", "COMPLETED", "FAILED", "REPLICA"


def mark_pending(
    configuration: Mapping[str, Any] | None, account: str, key: str, value: dict[str, Any], *, is_marker: bool
) -> None:
    """Give a version that a rule is for the status PENDING. Delete markers carry no status."""
    if configuration is None or is_marker or value.get("owner", account) != account:
        return
    if value.get("repl") == REPLICA:
        return
    if rules_for(configuration, key, value):
        value["repl"] = PENDING
    else:
        value.pop("repl", None)


def rules_for(configuration: Mapping[str, Any], key: str, value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """One rule for each destination bucket: of those that fit, the one with the highest priority."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for rule in sorted(configuration["Rules"], key=priority_of, reverse=True):
        if rule["Status"] == "Enabled" and fits(rule, key, value):
            chosen.setdefault(rule["Destination"]["Bucket"], rule)
    return list(chosen.values())


def priority_of(rule: Mapping[str, Any]) -> int:
    priority: int = rule.get("Priority", 0)
    return priority


def fits(rule: Mapping[str, Any], key: str, value: Mapping[str, Any]) -> bool:
    """Prefix, tags, and whether the object is encrypted in a way the rule takes along."""
    prefix, tags = condition_of(rule)
    if not key.startswith(prefix):
        return False
    own = value.get("tags") or {}
    if any(own.get(name) != wanted for name, wanted in tags.items()):
        return False
    if "marker" in value:
        return True
    method = (value.get("head") or {}).get("ServerSideEncryption", "")
    if method in ("aws:kms", "aws:kms:dsse"):
        return takes(rule, "SseKmsEncryptedObjects")
    return True


def takes(rule: Mapping[str, Any], criterion: str) -> bool:
    found = (rule.get("SourceSelectionCriteria") or {}).get(criterion) or {}
    return bool(found.get("Status") == "Enabled")


def condition_of(rule: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """(prefix, tags) of a rule of either form."""
    if "Filter" not in rule:
        return rule.get("Prefix") or "", {}
    chosen = rule["Filter"]
    both = chosen.get("And") or {}
    prefix = chosen.get("Prefix") or both.get("Prefix") or ""
    tags = [*(both.get("Tags") or ()), *([chosen["Tag"]] if "Tag" in chosen else ())]
    return prefix, {tag["Key"]: tag.get("Value", "") for tag in tags}


def is_current_form(rule: Mapping[str, Any]) -> bool:
    """V2: the rule has a Filter. In V1 delete markers are replicated along."""
    return "Filter" in rule


def takes_markers(rule: Mapping[str, Any]) -> bool:
    if not is_current_form(rule):
        return True
    return bool((rule.get("DeleteMarkerReplication") or {}).get("Status") == "Enabled")


def has_time_control(rule: Mapping[str, Any]) -> bool:
    return bool((rule["Destination"].get("ReplicationTime") or {}).get("Status") == "Enabled")


def has_metrics(rule: Mapping[str, Any]) -> bool:
    return bool((rule["Destination"].get("Metrics") or {}).get("Status") == "Enabled")
