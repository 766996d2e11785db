"""Replication rules of a bucket. Which rule is for an object stands in replication_rules.py, how it travels in replicate.py.

Source: S3 API Reference, PutBucketReplication; S3 User Guide, "Replication configuration file elements".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Access, Context, Operations
from pilvi.services.s3 import lock_rules
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, find_bucket, get_bucket
from pilvi.services.s3.errors import invalid_argument, invalid_request, malformed_xml, not_implemented
from pilvi.services.s3.replication_rules import condition_of, has_metrics, has_time_control, is_current_form, takes, takes_markers

ops = Operations()

SETTING = "Replication"
RULES = 1000
MINUTES = 15
"""The one threshold there is. Source: S3 User Guide, "Using S3 Replication Time Control"."""
FOR_THIS_VERSION = (
    "must be specified for this version of Cross Region Replication configuration schema. Please refer to S3 Developer Guide for "
    "more information."
)


@ops
def put_bucket_replication(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replicate what is put into the bucket from now on, as the rules say, under a role.

    req: Bucket, ReplicationConfiguration {Role, Rules [ID, Status, Priority, Filter or Prefix, Destination {Bucket, Account, StorageClass,
    AccessControlTranslation, EncryptionConfiguration, ReplicationTime, Metrics}, DeleteMarkerReplication, SourceSelectionCriteria]}.
    Errors: InvalidRequest - versioning is off here or there, the destination is missing or this very bucket, rules contradict each
    other; InvalidArgument - no role, a destination that is no ARN; MalformedXML; AccessDenied - the caller may not pass the role.
    Source: S3 API Reference, PutBucketReplication.
    Differs: objects under customers' own keys (SSE-C) are not replicated; their status becomes FAILED.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    configuration = req["ReplicationConfiguration"]
    role, rules = configuration.get("Role", ""), configuration.get("Rules") or []
    if bucket.versioning != "Enabled":
        raise invalid_request("Versioning must be 'Enabled' on the bucket to apply a replication configuration")
    if not 0 < len(rules) <= RULES:
        raise malformed_xml()
    check_role(ctx, role)
    for rule in rules:
        check_rule(rule)
        check_destination(ctx, bucket, rule["Destination"])
    check_together(rules)
    named = [{"ID": ctx.ids.uuid(), **rule} for rule in rules]
    change_bucket(ctx, bucket.name, **{SETTING: {"Role": role, "Rules": named}})


@ops
def get_bucket_replication(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bucket's replication rules.

    Errors: ReplicationConfigurationNotFoundError.
    Source: S3 API Reference, GetBucketReplication.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    if SETTING not in bucket.value:
        raise ServiceError(
            "ReplicationConfigurationNotFoundError", "The replication configuration was not found", 404, BucketName=bucket.name
        )
    return {"ReplicationConfiguration": bucket.value[SETTING]}


@ops
def delete_bucket_replication(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replicate no more. What waits to be replicated stays here alone.

    Source: S3 API Reference, DeleteBucketReplication.
    """
    change_bucket(ctx, req["Bucket"], **{SETTING: None})


# -- what is refused ------------------------------------------------------------------------------------------------------


def check_role(ctx: Context, role: str) -> None:
    parts = role.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "iam" or not parts[5].startswith("role/"):
        raise invalid_argument("Invalid Role ARN.", "Role", role)
    if parts[4] != ctx.account:
        raise invalid_argument("Cross-account pass role is not allowed.", "Role", role)
    ctx.authorize(Access("iam:PassRole", role, context={"iam:PassedToService": "s3.amazonaws.com"}))


def check_rule(rule: Mapping[str, Any]) -> None:
    """What one rule must say, and must not say together."""
    if rule.get("Status") not in ("Enabled", "Disabled") or len(rule.get("ID", "")) > 255:
        raise malformed_xml()
    if takes(rule, "ReplicaModifications") and not is_current_form(rule):
        raise malformed_xml()
    if (rule.get("ExistingObjectReplication") or {}).get("Status") == "Enabled":
        raise not_implemented("ExistingObjectReplication")
    if is_current_form(rule):
        check_current_form(rule)
    elif "Prefix" not in rule:
        raise malformed_xml()
    check_delivery(rule)


def check_current_form(rule: Mapping[str, Any]) -> None:
    if "Prefix" in rule:
        raise malformed_xml()
    if sum(name in rule["Filter"] for name in ("Prefix", "Tag", "And")) > 1:
        raise malformed_xml()
    if "Priority" not in rule:
        raise invalid_request(f"Priority {FOR_THIS_VERSION}")
    if rule["Priority"] < 0:
        raise invalid_argument("Priority must be a non-negative integer", "Priority", rule["Priority"])
    if "Status" not in (rule.get("DeleteMarkerReplication") or {}):
        raise invalid_request(f"DeleteMarkerReplication {FOR_THIS_VERSION}")
    if takes_markers(rule) and condition_of(rule)[1]:
        raise invalid_request(
            "Delete marker replication is not supported if any Tag filter is specified. Please refer to S3 Developer Guide for more "
            "information."
        )


def check_delivery(rule: Mapping[str, Any]) -> None:
    """Keys, owners, and the quarter of an hour."""
    destination = rule["Destination"]
    has_key = bool((destination.get("EncryptionConfiguration") or {}).get("ReplicaKmsKeyID"))
    if takes(rule, "SseKmsEncryptedObjects") and not has_key:
        raise invalid_request("ReplicaKmsKeyID must be specified if SseKmsEncryptedObjects tag is present.")
    if has_key and "SseKmsEncryptedObjects" not in (rule.get("SourceSelectionCriteria") or {}):
        raise invalid_request("SseKmsEncryptedObjects must be specified if EncryptionConfiguration is present.")
    if "AccessControlTranslation" in destination and "Account" not in destination:
        raise invalid_request("Account must be specified if AccessControlTranslation is present.")
    if has_time_control(rule):
        if not has_metrics(rule):
            raise invalid_request("Metrics must be enabled if ReplicationTime is enabled.")
        if destination["ReplicationTime"]["Time"].get("Minutes") != MINUTES:
            raise invalid_argument("ReplicationTime must be 15 minutes.", "Minutes", destination["ReplicationTime"]["Time"])
    threshold = (destination.get("Metrics") or {}).get("EventThreshold")
    if threshold is not None and threshold.get("Minutes") != MINUTES:
        raise invalid_argument("EventThreshold must be 15 minutes.", "Minutes", threshold)


def check_destination(ctx: Context, source: Bucket, destination: Mapping[str, Any]) -> None:
    arn = destination.get("Bucket", "")
    name = arn.rpartition(":::")[2]
    if not arn.startswith("arn:") or ":s3:::" not in arn or not name or "/" in name:
        raise invalid_argument("Invalid bucket ARN.", "Bucket", arn)
    if name == source.name:
        raise invalid_request("Destination bucket cannot be the same as the source bucket.")
    bucket = find_bucket(ctx, name)
    if bucket is None:
        raise invalid_request("Destination bucket must exist.")
    if bucket.versioning != "Enabled":
        raise invalid_request("Destination bucket must have versioning enabled.")
    if destination.get("Account", bucket.account) != bucket.account:
        raise invalid_request("Account must be the owner of the destination bucket.")
    if lock_rules.SETTING in source.value and not bucket.has_lock:
        raise invalid_request("Object Lock must be enabled on the destination bucket if it is enabled on the source bucket.")


def check_together(rules: Sequence[Mapping[str, Any]]) -> None:
    """Names and priorities stand once; rules without filters lead to one bucket and do not overlap."""
    forms = {is_current_form(rule) for rule in rules}
    if len(forms) > 1:
        raise malformed_xml()
    for member, what in (("ID", "Rule Id"), ("Priority", "Priority")):
        counted = Counter(rule[member] for rule in rules if member in rule)
        if counted and counted.most_common(1)[0][1] > 1:
            raise invalid_request(f"{what} must be unique. Found same {what} for more than one rule.")
    if forms == {True}:
        return
    if len({rule["Destination"]["Bucket"] for rule in rules}) > 1:
        raise invalid_request("Number of distinct destination bucket ARNs cannot exceed 1")
    for one, other in combinations([rule["Prefix"] for rule in rules], 2):
        if one.startswith(other) or other.startswith(one):
            raise invalid_request(f"Found overlapping prefixes '{one}' and '{other}'")
