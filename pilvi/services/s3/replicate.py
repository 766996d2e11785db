"""Replication at work: what befell a version of a bucket with rules, done again in the buckets they lead to, as their role may.

    fact -> the version as it is now -> for each rule that fits: allowed? -> bytes copied, sealed for their new place -> a version of the
    same id in its place -> the source's status: PENDING, then COMPLETED, or FAILED and tried again

A version travels as a whole when it was created; later changes of its tags, its list, its lock follow it. Nothing is deleted for good
at a destination, and what lifecycle rules remove here stays there.

Source: S3 User Guide, "What does Amazon S3 replicate?", "Setting up permissions for live replication", "Replication status".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import NotFound, PilviError, ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Access, Cloud, Context
from pilvi.events import GiveUp
from pilvi.services.s3.catalog import Bucket, find_bucket
from pilvi.services.s3.content import Segment, Stored, open_range, take, undo
from pilvi.services.s3.digest import ALGORITHMS, Declared
from pilvi.services.s3.errors import access_denied
from pilvi.services.s3.facts import REPLICATING, happened
from pilvi.services.s3.history import (
    Found,
    Plan,
    Value,
    carry_out,
    find_version,
    is_marker,
    manifest_of,
    plan_replica,
    segments_of,
)
from pilvi.services.s3.lock_rules import check_change, is_retained
from pilvi.services.s3.permission import permission
from pilvi.services.s3.replication_metrics import keep_outcome
from pilvi.services.s3.replication_rules import COMPLETED, FAILED, REPLICA, has_time_control, rules_for, takes, takes_markers
from pilvi.services.s3.sealing import at_key, open_row, worded
from pilvi.storage.layers import KEY_BYTES, Keys
from pilvi.storage.records import Change, PutBody, Update, new_body_name

if TYPE_CHECKING:
    from pilvi.events import Fact

SERVICE = "s3.amazonaws.com"
CREATED = "ObjectCreated:"
MARKED = "ObjectRemoved:DeleteMarkerCreated"
CHANGED = ("ObjectTagging:", "ObjectAcl:", "ObjectRetention:", "ObjectLegalHold:")
TIME_CONTROL_S = 15 * 60.0
CARRIED = ("meta", "tags", "size", "etag", "sum", "n", "mtime", "seq", "ver", "marker")
"""Members of a row that go with it as they are."""
PARTICULARS = ("tags", "acl", "lock", "hold")
"""Members that may change later."""


async def replicate(cloud: Cloud, fact: Fact) -> None:
    """Take a fact. Raises when a destination could not be reached, to be asked again."""
    event = fact["eventName"]
    is_change = event.startswith(CHANGED)
    if not is_change and not event.startswith(CREATED) and event != MARKED:
        return
    ctx = service_context(cloud, fact)
    source = find_bucket(ctx, fact["bucket"])
    if source is None or (configuration := source.value.get("Replication")) is None:
        return
    found = find_version(ctx, source, fact["key"], fact["versionId"])
    if found is None or "ver" not in found.value:  # null versions are older than the rules, or not theirs
        return
    rules = rules_for(configuration, fact["key"], found.value)
    if found.value.get("repl") == REPLICA:
        rules = [rule for rule in rules if is_change and takes(rule, "ReplicaModifications")]
    if is_marker(found.value):
        rules = [rule for rule in rules if takes_markers(rule)]
    failure: PilviError | None = None
    for rule in rules:
        try:
            await replicate_to(ctx, configuration["Role"], source, rule, fact["key"], found, is_change)
        except PilviError as error:
            failure = error
        keep_outcome(ctx, source, rule, found.value, failure is None)
    if rules and not is_marker(found.value):
        await set_status(ctx, source, fact["key"], fact["versionId"], COMPLETED if failure is None else FAILED)
    if failure is not None:
        raise failure


async def give_up(cloud: Cloud, fact: Fact, reason: str) -> None:  # noqa: ARG001 - the source's status says it
    """No further attempt will come."""
    ctx = service_context(cloud, fact)
    source = find_bucket(ctx, fact["bucket"])
    if source is not None:
        await set_status(ctx, source, fact["key"], fact["versionId"], FAILED)


def service_context(cloud: Cloud, fact: Mapping[str, Any]) -> Context:
    """S3 itself, on behalf of the bucket."""
    account, arn = fact["owner"], f"arn:aws:s3:::{fact['bucket']}"
    principal = Principal("service", account, "", SERVICE, SERVICE, source_arn=arn)
    return Context(
        cloud,
        principal=principal,
        account=account,
        region=fact["region"],
        service="s3",
        operation=REPLICATING,
        source_ip=SERVICE,
        user_agent=SERVICE,
    )


async def set_status(ctx: Context, bucket: Bucket, key: str, version_id: str, status: str) -> None:
    """The source's status; whatever else was changed meanwhile stays."""

    def make(bucket: Bucket) -> Plan:
        found = find_version(ctx, bucket, key, version_id)
        if found is None or is_marker(found.value) or found.value.get("repl") in (status, REPLICA):
            return Plan()
        value = {**found.value, "repl": status}
        plan = Plan([Update(found.table, found.row.id, value, found.row.version)])
        if bucket.listeners and status == FAILED:
            happened(bucket, plan.facts, "Replication:OperationFailedReplication", key, value)
        elif bucket.listeners and ctx.clock.time_s() - value["mtime"] > TIME_CONTROL_S and is_timed(bucket, key, value):
            happened(bucket, plan.facts, "Replication:OperationReplicatedAfterThreshold", key, value)
        return plan

    await carry_out(ctx, bucket.name, key, make)


def is_timed(bucket: Bucket, key: str, value: Value) -> bool:
    """Whether a rule promises that it takes no more than a quarter of an hour."""
    configuration = bucket.value.get("Replication")
    return configuration is not None and any(map(has_time_control, rules_for(configuration, key, value)))


# -- to one destination -----------------------------------------------------------------------------------------------------


async def replicate_to(
    ctx: Context, role: str, source: Bucket, rule: Mapping[str, Any], key: str, found: Found, is_change: bool
) -> None:
    """Errors: AccessDenied - the role is not there, or may not; NotFound - the destination is gone."""
    destination = rule["Destination"]
    target = find_bucket(ctx, destination["Bucket"].rpartition(":::")[2])
    if target is None or target.versioning != "Enabled":
        raise NotFound("The destination bucket does not exist, or is not versioned.")
    acting = ctx.as_role(role, "s3-replication")
    check_allowed(acting, source, target, key, found.value, takes_owner(destination))
    there = find_version(acting, target, key, found.value["ver"])
    value = particulars(source, target, destination, found.value)
    if there is not None:
        if is_change:
            await change_replica(ctx, target, key, found.value, value)
        return
    if is_marker(found.value):
        row = {**{name: found.value[name] for name in CARRIED if name in found.value}, "repl": REPLICA}
        await carry_out(ctx, target.name, key, lambda bucket: plan_replica(ctx, bucket, key, row, bucket.tables.markers))
        return
    await copy_version(ctx, acting, source, target, destination, key, found.value, value)


def takes_owner(destination: Mapping[str, Any]) -> bool:
    return "AccessControlTranslation" in destination


def check_allowed(acting: Context, source: Bucket, target: Bucket, key: str, value: Value, takes_ownership: bool) -> None:
    """What the role needs on both sides."""
    here, there = source.object_arn(key), target.object_arn(key)
    version = {"s3:VersionId": value["ver"]}
    needed: list[Access] = [permission(acting, source, "s3:GetReplicationConfiguration", source.arn)]
    if is_marker(value):
        needed.append(permission(acting, target, "s3:ReplicateDelete", there))
    else:
        needed.append(permission(acting, source, "s3:GetObjectVersionForReplication", here, version))
        needed.append(permission(acting, source, "s3:GetObjectVersionAcl", here, version))
        needed.append(permission(acting, target, "s3:ReplicateObject", there))
    if value.get("tags"):
        needed.append(permission(acting, source, "s3:GetObjectVersionTagging", here, version))
        needed.append(permission(acting, target, "s3:ReplicateTags", there))
    if "lock" in value:
        needed.append(permission(acting, source, "s3:GetObjectRetention", here))
    if "hold" in value:
        needed.append(permission(acting, source, "s3:GetObjectLegalHold", here))
    if takes_ownership:
        needed.append(permission(acting, target, "s3:ObjectOwnerOverrideToBucketOwner", there))
    for access in needed:
        if not acting.allows(access):
            raise access_denied(f"The replication role may not do {access.action} on {access.resource}.")


def particulars(source: Bucket, target: Bucket, destination: Mapping[str, Any], value: Value) -> Value:
    """Tags, owner, list and lock, as far as they count at the destination."""
    row: Value = {name: value[name] for name in ("tags",) if name in value}
    if target.has_lock:
        row |= {name: value[name] for name in ("lock", "hold") if name in value}
    if target.has_acls and not takes_owner(destination):
        owner = value.get("owner", source.account)
        if owner != target.account:
            row["owner"] = owner
        if "acl" in value:
            row["acl"] = value["acl"]
    return row


async def change_replica(ctx: Context, target: Bucket, key: str, source: Value, wanted: Value) -> None:
    """Bring a replica's particulars up to date."""

    def make(bucket: Bucket) -> Plan:
        there = find_version(ctx, bucket, key, source["ver"])
        if there is None:
            return Plan()
        kept = {name: member for name, member in there.value.items() if name not in PARTICULARS}
        value = {**kept, **wanted}
        if is_retained(there.value, ctx.clock.now()) and not keeps_lock(there.value, wanted, ctx.clock.now()):
            value["lock"] = there.value["lock"]  # its own bucket has locked it for longer
        if there.value.get("hold") and "hold" not in wanted:
            value["hold"] = True
        return Plan([Update(there.table, there.row.id, value, there.row.version)])

    await carry_out(ctx, target.name, key, make)


def keeps_lock(there: Value, wanted: Value, now: datetime) -> bool:
    """Whether a replica's lock may become its source's: object lock holds for replication too."""
    try:
        check_change(there, wanted.get("lock"), now, False)
    except ServiceError:
        return False
    return True


async def copy_version(
    ctx: Context,
    acting: Context,
    source: Bucket,
    target: Bucket,
    destination: Mapping[str, Any],
    key: str,
    value: Value,
    own: Value,
) -> None:
    """Read, seal anew and place a version; its parts stay parts."""
    row = {**{name: value[name] for name in CARRIED if name in value}, **own, "repl": REPLICA}
    head = dict(value.get("head") or {})
    if "StorageClass" in destination:
        head["StorageClass"] = destination["StorageClass"]
        if head["StorageClass"] == "STANDARD":
            del head["StorageClass"]
    enc = value.get("enc")
    if enc is not None and "c" in enc:
        raise GiveUp("Objects under customers' own keys cannot be read for replication.")
    opening = await open_row(acting, source, key, {}, value) if enc is not None else None
    sealing = None
    if enc is not None:
        sealing, row["enc"] = await seal_for(acting, target, key, destination["EncryptionConfiguration"]["ReplicaKmsKeyID"], head)
    if head:
        row["head"] = head
    stored: list[Stored] = []
    try:
        for number, segment in enumerate(segments_of(ctx, value)):
            stored.append(await copy_segment(ctx, value, segment, number, opening, sealing))
        changes = placing(ctx, row, value, stored)
    except BaseException:
        for one in stored:
            await undo(ctx, one)
        raise

    def make(bucket: Bucket) -> Plan:
        plan = plan_replica(ctx, bucket, key, dict(row), bucket.tables.objects)
        if plan.changes:
            plan.changes += changes
        else:
            plan.garbage += [one.name for one in stored]
        return plan

    try:
        await carry_out(ctx, target.name, key, make)
    except PilviError:
        # Not when it was cancelled: the server stops, the transaction may be on its way, and what it does not claim is swept.
        for one in stored:
            await undo(ctx, one)
        raise


async def copy_segment(
    ctx: Context, value: Value, segment: Segment, number: int, opening: Keys | None, sealing: Keys | None
) -> Stored:
    """One stretch of bytes, checked against the sum that was kept for it."""
    algorithm = ALGORITHMS[value["sum"][0]]
    sum_ = manifest_of(ctx, value)[number][3] if "parts" in value else value["sum"][1]
    body = open_range(ctx, [segment], 0, segment.size, opening)
    stored = await take(ctx, body, Declared(algorithm, "", "", ""), sealing)
    if sum_ and stored.sum != sum_:
        await undo(ctx, stored)
        raise NotFound("The source's bytes are not those that were written.")
    return stored


def placing(ctx: Context, row: Value, value: Value, stored: list[Stored]) -> list[Change]:
    """What claims the bytes, and says in the row where they lie."""
    changes: list[Change] = [change for one in stored for change in one.changes]
    if "parts" not in value:
        if stored:
            row["at"] = stored[0].name
        return changes
    manifest = [
        (number, one.name, one.size, sum_) for (number, _, _, sum_), one in zip(manifest_of(ctx, value), stored, strict=True)
    ]
    row["parts"] = new_body_name()
    packed = json.dumps(manifest, separators=(",", ":")).encode()
    return [*changes, PutBody(row["parts"], ctx.keyring.seal(packed, row["parts"].encode()))]


async def seal_for(acting: Context, target: Bucket, key: str, key_id: str, head: Value) -> tuple[Keys, Value]:
    """A data key for the replica, wrapped by the destination's KMS key: the role needs kms:Encrypt on it."""
    where = at_key(acting, key_id, target.region)
    context = {"aws:s3:arn": target.object_arn(key)}
    keys, wrapped = [], []
    for _ in range(2 if head.get("ServerSideEncryption") == "aws:kms:dsse" else 1):
        keys.append(os.urandom(KEY_BYTES))
        try:
            made = await where.acall("kms", "Encrypt", KeyId=key_id, Plaintext=keys[-1], EncryptionContext=context)
        except ServiceError as error:
            raise worded(error) from error
        wrapped.append(made["CiphertextBlob"])
        head["SSEKMSKeyId"] = made["KeyId"]
    head.pop("BucketKeyEnabled", None)
    return tuple(keys), {"k": wrapped}
