"""Lifecycle configuration of a bucket: the document, checked as AWS checks it. lifecycle_run.py carries it out.

PutBucketLifecycle of old clients is the same request; a rule's one `Transition` is a list of one here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.classes import DEPTH, WATERFALL
from pilvi.services.s3.errors import invalid_argument, invalid_request, malformed_xml
from pilvi.services.s3.lifecycle_rules import ALL_128K, MEMBER, VARIES
from pilvi.services.s3.mfa import is_needed, not_together

ops = Operations()

RULES = 1000
ID_CHARACTERS = 255
MOST_VERSIONS = 100
DAYS_BEFORE_IA = 30
"""Objects stay so long in the class they came to before they may go to an infrequent-access one, and so long there."""
INFREQUENT = ("STANDARD_IA", "ONEZONE_IA")

ACTIONS = (
    "Expiration",
    "Transitions",
    "NoncurrentVersionTransitions",
    "NoncurrentVersionExpiration",
    "AbortIncompleteMultipartUpload",
)


@ops
def put_bucket_lifecycle_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep rules by which objects move to other classes or are deleted; they replace those that were there.

    req: Bucket, LifecycleConfiguration {Rules (1,000)}, TransitionDefaultMinimumObjectSize (all_storage_classes_128K).
    Errors: MalformedXML; InvalidArgument - days, dates, ids, versions; InvalidRequest - no action, mixed days and dates, classes
    against the waterfall, filters that an action cannot have; InvalidBucketState - MFA delete guards the bucket's versions.
    Source: S3 API Reference, PutBucketLifecycleConfiguration; S3 User Guide, "Transitioning objects using Amazon S3 Lifecycle".
    """
    configuration = req.get("LifecycleConfiguration") or {}
    rules = [dict(rule) for rule in configuration.get("Rules") or ()]
    check_rules(rules)
    for rule in rules:
        rule.setdefault("ID", ctx.ids.uuid())
    minimum = req.get("TransitionDefaultMinimumObjectSize") or ALL_128K
    if minimum not in (VARIES, ALL_128K):
        raise invalid_argument(
            "The TransitionDefaultMinimumObjectSize value is not valid", "x-amz-transition-default-minimum-object-size", minimum
        )
    if is_needed(get_bucket(ctx, req["Bucket"])):
        raise not_together()
    change_bucket(ctx, req["Bucket"], **{MEMBER: {"Rules": rules, "TransitionDefaultMinimumObjectSize": minimum}})
    return {"TransitionDefaultMinimumObjectSize": minimum}


@ops
def get_bucket_lifecycle_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rules as they were put.

    Errors: NoSuchLifecycleConfiguration.
    Source: S3 API Reference, GetBucketLifecycleConfiguration.
    """
    held: Mapping[str, Any] | None = get_bucket(ctx, req["Bucket"]).value.get(MEMBER)
    if held is None:
        raise ServiceError(
            "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist", 404, BucketName=req["Bucket"]
        )
    return held


@ops
def delete_bucket_lifecycle(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget the rules; without any this succeeds as well.

    Source: S3 API Reference, DeleteBucketLifecycle.
    """
    change_bucket(ctx, req["Bucket"], **{MEMBER: None})


# -- checking -------------------------------------------------------------------------------------------------------------


def check_rules(rules: Sequence[Mapping[str, Any]]) -> None:
    if not rules:
        raise malformed_xml()
    if len(rules) > RULES:
        raise invalid_request(f"The number of lifecycle rules must not exceed the allowed limit of {RULES} rules")
    ids = [rule["ID"] for rule in rules if rule.get("ID")]
    if len(set(ids)) != len(ids):
        raise argument("Rule ID must be unique. Found same ID for more than one rule")
    for rule in rules:
        if len(rule.get("ID") or "") > ID_CHARACTERS:
            raise argument(f"ID length should not exceed allowed limit of {ID_CHARACTERS}")
        check_rule(rule)
    check_overlaps(rules)


def argument(message: str) -> ServiceError:
    return ServiceError("InvalidArgument", message, 400)


def check_rule(rule: Mapping[str, Any]) -> None:
    if rule["Status"] not in ("Enabled", "Disabled"):
        raise malformed_xml()
    if ("Filter" in rule) is ("Prefix" in rule):
        raise malformed_xml()
    where = filter_text(rule)
    check_filter(rule.get("Filter") or {})
    if not any(rule.get(action) for action in ACTIONS):
        raise invalid_request("At least one action needs to be specified in a rule")
    check_expiration(rule.get("Expiration"), rule)
    check_moves(rule.get("Transitions") or [], where)
    check_against_expiration(rule, where)
    check_noncurrent(rule, where)
    check_abort(rule)


def filter_text(rule: Mapping[str, Any]) -> str:
    """As AWS's messages name a filter: '(prefix=logs/)'."""
    chosen = rule.get("Filter") or {}
    chosen = chosen.get("And") or chosen
    pieces = [f"prefix={rule.get('Prefix') or chosen.get('Prefix') or ''}"]
    tags = [*(chosen.get("Tags") or ()), *([chosen["Tag"]] if "Tag" in chosen else ())]
    pieces += [f"tag: key={tag['Key']}, value={tag['Value']}" for tag in tags]
    return f"'({' and '.join(pieces)})'"


def check_filter(chosen: Mapping[str, Any]) -> None:
    """Errors: MalformedXML - several predicates without And, or And over fewer than two; InvalidArgument, InvalidRequest."""
    if len(chosen) > 1:
        raise malformed_xml()
    both = chosen.get("And")
    if both is not None:
        tags = both.get("Tags") or []
        if len(tags) + sum(name in both for name in ("Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan")) < 2:
            raise malformed_xml()
        if len({tag["Key"] for tag in tags}) != len(tags):
            raise invalid_request("Duplicate Tag Keys are not allowed.")
    within = both or chosen
    larger, smaller = within.get("ObjectSizeGreaterThan"), within.get("ObjectSizeLessThan")
    if larger is not None and larger < 0:
        raise argument("'ObjectSizeGreaterThan' must be a nonnegative integer")
    if smaller is not None and smaller < 1:
        raise argument("'ObjectSizeLessThan' must be a positive integer")
    if larger is not None and smaller is not None and smaller <= larger:
        raise invalid_request("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'")


def has_tags(rule: Mapping[str, Any]) -> bool:
    chosen = rule.get("Filter") or {}
    return "Tag" in chosen or bool((chosen.get("And") or {}).get("Tags"))


def has_sizes(rule: Mapping[str, Any]) -> bool:
    chosen = rule.get("Filter") or {}
    chosen = chosen.get("And") or chosen
    return "ObjectSizeGreaterThan" in chosen or "ObjectSizeLessThan" in chosen


def check_expiration(expiration: Mapping[str, Any] | None, rule: Mapping[str, Any]) -> None:
    if expiration is None:
        return
    if len(expiration) != 1:
        raise malformed_xml()
    if "Days" in expiration and expiration["Days"] < 1:
        raise argument("'Days' for Expiration action must be a positive integer")
    check_date(expiration)
    if "ExpiredObjectDeleteMarker" in expiration:
        if has_tags(rule):
            raise invalid_request("ExpiredObjectDeleteMarker cannot be specified with Tags.")
        if has_sizes(rule):
            raise invalid_request("ExpiredObjectDeleteMarker cannot be specified with Object Size.")


def check_date(action: Mapping[str, Any]) -> None:
    date = action.get("Date")
    if date is not None and date.timestamp() % 86_400:
        raise argument("'Date' must be at midnight GMT")


def check_moves(moves: Sequence[Mapping[str, Any]], where: str) -> None:
    """Days or dates, each class once, downward only, and the thirty days around infrequent access."""
    for move in moves:
        if "StorageClass" not in move or ("Days" in move) is ("Date" in move):
            raise malformed_xml()
        check_date(move)
        if move.get("Days", 0) < 0:
            raise argument("'Days' for Transition action must be nonnegative")
        if "Days" in move and move["StorageClass"] in INFREQUENT and move["Days"] < DAYS_BEFORE_IA:
            raise argument(
                f"'Days' in Transition action must be greater than or equal to {DAYS_BEFORE_IA} for storageClass "
                f"'{move['StorageClass']}'"
            )
    if len({"Days" in move for move in moves}) > 1:
        raise invalid_request(f"Found mixed 'Date' and 'Days' based Transition actions in lifecycle rule for filter {where}")
    check_order(
        [(timing(move), move["StorageClass"]) for move in moves],
        "Days" if moves and "Days" in moves[0] else "Date",
        "Transition",
        where,
    )


def timing(move: Mapping[str, Any]) -> float:
    """In days."""
    return float(move["Days"]) if "Days" in move else float(move["Date"].timestamp() / 86_400)


def check_order(moves: Sequence[tuple[float, str]], unit: str, action: str, where: str) -> None:
    names = [name for _, name in moves]
    if len(set(names)) != len(names):
        raise invalid_request(f"'StorageClass' must be different for '{action}' actions in same 'Rule' with filter {where}")
    ordered = sorted(moves, key=lambda move: (move[0], DEPTH[move[1]]))
    for (earlier, above), (later, below) in pairwise(ordered):
        if below not in WATERFALL[above]:
            raise invalid_request(
                f"'{action}' action for StorageClass '{below}' for filter {where} cannot follow the '{action}' action for StorageClass "
                f"'{above}'"
            )
        if above in INFREQUENT and later - earlier < DAYS_BEFORE_IA:
            raise argument(
                f"'{unit}' in the '{action}' action for StorageClass '{below}' for filter {where} must be {DAYS_BEFORE_IA} days more than "
                f"'filter {where}' in the '{action}' action for StorageClass '{above}'"
            )


def check_against_expiration(rule: Mapping[str, Any], where: str) -> None:
    """What is moved must be there after the move."""
    expiration, moves = rule.get("Expiration") or {}, rule.get("Transitions") or []
    if not moves or not ("Days" in expiration or "Date" in expiration):
        return
    if ("Days" in expiration) is not ("Days" in moves[0]):
        raise invalid_request(
            f"Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule for filter {where}"
        )
    unit = "Days" if "Days" in expiration else "Date"
    if any(timing(expiration) <= timing(move) for move in moves):
        raise argument(
            f"'{unit}' in the Expiration action for filter {where} must be greater than '{unit}' in the Transition action"
        )


def check_noncurrent(rule: Mapping[str, Any], where: str) -> None:
    moves, expiration = rule.get("NoncurrentVersionTransitions") or [], rule.get("NoncurrentVersionExpiration")
    for move in moves:
        if "StorageClass" not in move or "NoncurrentDays" not in move:
            raise malformed_xml()
        if move["NoncurrentDays"] < 0:
            raise argument("'NoncurrentDays' for NoncurrentVersionTransition action must be nonnegative")
        if move["StorageClass"] in INFREQUENT and move["NoncurrentDays"] < DAYS_BEFORE_IA:
            raise argument(
                f"'NoncurrentDays' in NoncurrentVersionTransition action must be greater than or equal to {DAYS_BEFORE_IA} for "
                f"storageClass '{move['StorageClass']}'"
            )
    check_order(
        [(float(move["NoncurrentDays"]), move["StorageClass"]) for move in moves],
        "NoncurrentDays",
        "NoncurrentVersionTransition",
        where,
    )
    for action in (*moves, *([expiration] if expiration is not None else ())):
        newer = action.get("NewerNoncurrentVersions")
        if newer is not None and not 1 <= newer <= MOST_VERSIONS:
            raise argument(f"'NewerNoncurrentVersions' must be an integer between 1 and {MOST_VERSIONS}")
        if newer is not None and "Filter" not in rule:
            raise malformed_xml()
    if expiration is None:
        return
    if "NoncurrentDays" not in expiration:
        raise malformed_xml()
    if expiration["NoncurrentDays"] < 1:
        raise argument("'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer")
    if any(expiration["NoncurrentDays"] <= move["NoncurrentDays"] for move in moves):
        raise argument(
            f"'NoncurrentDays' in the NoncurrentVersionExpiration action for filter {where} must be greater than 'NoncurrentDays' in the "
            "NoncurrentVersionTransition action"
        )


def check_abort(rule: Mapping[str, Any]) -> None:
    abort = rule.get("AbortIncompleteMultipartUpload")
    if abort is None:
        return
    if abort.get("DaysAfterInitiation", 0) < 1:
        raise argument("'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer")
    if has_tags(rule):
        raise invalid_request("AbortIncompleteMultipartUpload cannot be specified with Tags.")
    if has_sizes(rule):
        raise invalid_request("AbortIncompleteMultipartUpload cannot be specified with Object Size.")


def check_overlaps(rules: Sequence[Mapping[str, Any]]) -> None:
    """Rules of the old form (a Prefix of their own, no Filter) may not overlap in the same action."""
    old = [rule for rule in rules if "Prefix" in rule and rule["Status"] == "Enabled"]
    for number, rule in enumerate(old):
        for other in old[number + 1 :]:
            one, two = sorted((rule["Prefix"] or "", other["Prefix"] or ""))
            shared = next((action for action in ACTIONS if rule.get(action) and other.get(action)), None)
            if shared is not None and two.startswith(one):
                raise invalid_request(f"Found overlapping prefixes '{one}' and '{two}' for same action type '{shared.rstrip('s')}'")
