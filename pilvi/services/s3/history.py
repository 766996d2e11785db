"""Current and older versions of a key, and the one transaction by which each write moves them on.

    Object:key -- put --> Version:key NUL seq        (versioning enabled: the older one is kept)
    Object:key -- delete --> Marker:key              (a delete marker becomes what is current)
    delete of the current version --> the newest older one moves back

A key has at most one current row, in Object or in Marker; every change goes through it with the version it was read at, so two
writers of one key can never both win. `seq` counts microseconds and grows with every version of a key; version ids begin with
its complement, so an id leads straight to its row and the newest sorts first.

Source: Amazon S3 User Guide, "Using versioning in S3 buckets".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from pilvi.core.errors import AlreadyExists, Conflict, NotFound, ServiceError
from pilvi.core.service import Context
from pilvi.services.s3.catalog import Bucket, writable_bucket
from pilvi.services.s3.charges import early_end
from pilvi.services.s3.content import Segment, forgetting, is_file, release, release_now, unsealed
from pilvi.services.s3.directory_rules import CLASS
from pilvi.services.s3.errors import aborted, invalid_argument, no_such_key, no_such_version
from pilvi.services.s3.facts import CREATED, MARKED, REMOVED, Happened, happened, recordings, wake
from pilvi.services.s3.lock_rules import SETTING, check_removable, lock_by_default
from pilvi.storage.records import Change, Delete, Expect, Insert, Put, Row, Table, Update

ATTEMPTS = 100

Value = dict[str, Any]


class Found(NamedTuple):
    """A version of a key, wherever it lies."""

    row: Row
    table: Table
    is_current: bool

    @property
    def value(self) -> Value:
        return self.row.value


@dataclass(slots=True)
class Plan:
    """One transaction, and what to let go once it is done."""

    changes: list[Change] = field(default_factory=list)
    garbage: list[str] = field(default_factory=list)
    answer: Value = field(default_factory=dict)
    facts: list[Happened] = field(default_factory=list)
    """What it means to those who listen to the bucket; empty when nobody does."""


# -- looking up -----------------------------------------------------------------------------------------------------------


def find_current(ctx: Context, bucket: Bucket, key: str) -> Found | None:
    """What is current, a delete marker included."""
    if (row := ctx.store.get(bucket.tables.objects, key)) is not None:
        return Found(row, bucket.tables.objects, True)
    if bucket.versioning and (row := ctx.store.get(bucket.tables.markers, key)) is not None:
        return Found(row, bucket.tables.markers, True)
    return None


def find_version(ctx: Context, bucket: Bucket, key: str, version_id: str) -> Found | None:
    """Current or older. Versions change places while we look: one is missing only if it is in neither and the current one stayed."""
    current = find_current(ctx, bucket, key)
    while True:
        if current is not None and version_of(current.value) == version_id:
            return current
        older = find_older(ctx, bucket, key, version_id)
        if older is not None:
            return older
        again = find_current(ctx, bucket, key)
        if (again.row if again is not None else None) == (current.row if current is not None else None):
            return None
        current = again


def find_older(ctx: Context, bucket: Bucket, key: str, version_id: str) -> Found | None:
    if version_id == "null":
        pointer = ctx.store.get(bucket.tables.nulls, key)
        at = pointer.value["at"] if pointer is not None else ""
    else:
        at = version_id[:16]
    if not at:
        return None
    row = ctx.store.get(bucket.tables.versions, f"{key}\0{at}")
    if row is None or version_of(row.value) != version_id:
        return None
    return Found(row, bucket.tables.versions, False)


def find_object(ctx: Context, bucket: Bucket, key: str, version_id: str | None) -> Found:
    """The object that a read means.

    Errors: NoSuchKey - none, or a delete marker is current; NoSuchVersion; MethodNotAllowed - the version is a delete marker.
    """
    if version_id is None:
        found = find_current(ctx, bucket, key)
        if found is None or is_marker(found.value):
            raise no_such_key(key, None if found is None else marker_headers(found.value))
        return found
    found = find_version(ctx, bucket, key, check_version_id(version_id))
    if found is None:
        raise no_such_version(key, version_id)
    if is_marker(found.value):
        raise ServiceError(
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
            405,
            Method="GET",
            ResourceType="DeleteMarker",
            _headers={"Allow": "DELETE", **marker_headers(found.value)},
        )
    return found


def marker_headers(value: Value) -> dict[str, str]:
    """What tells a client that a delete marker hides the object."""
    return {"x-amz-delete-marker": "true", "x-amz-version-id": version_of(value)}


def check_version_id(version_id: str) -> str:
    if version_id != "null" and len(version_id) != 32:
        raise invalid_argument("Invalid version id specified", "versionId", version_id)
    return version_id


def version_of(value: Value) -> str:
    return str(value.get("ver", "null"))


def is_marker(value: Value) -> bool:
    return "marker" in value


def seq_of(value: Value) -> int:
    seq: int = value.get("seq") or value["mtime"] * 1_000_000
    return seq


def complement(seq: int) -> str:
    return f"{0xFFFFFFFFFFFFFFFF - seq:016x}"


def segments_of(ctx: Context, value: Value) -> list[Segment]:
    """Where an object's bytes lie, in order."""
    if (at := value.get("at")) is not None:
        return [Segment(at, value["size"])]
    if "parts" in value:
        return [Segment(name, size) for _, name, size, _ in manifest_of(ctx, value)]
    return []


def manifest_of(ctx: Context, value: Value) -> list[tuple[int, str, int, str]]:
    """(number, name, size, sum) of every part of a multipart object; kept beside the rows because it may be long."""
    packed = ctx.store.body(value["parts"])
    assert packed is not None
    if packed[:1] != b"[":  # sealed, but for those of earlier days
        packed = unsealed(ctx, packed, value["parts"])
    return [tuple(part) for part in json.loads(packed)]


def names_of(ctx: Context, value: Value) -> Iterator[str]:
    """Every body that goes when this version goes."""
    for segment in segments_of(ctx, value):
        yield segment.name
    if "parts" in value:
        yield value["parts"]


# -- planning -------------------------------------------------------------------------------------------------------------


def plan_delete(ctx: Context, bucket: Bucket, key: str) -> Plan:
    """Delete without naming a version: the object goes, or a delete marker hides it."""
    current = find_current(ctx, bucket, key)
    if not bucket.versioning:
        if current is None:
            return Plan()
        plan = Plan([Delete(current.table, key, current.row.version)])
        drop(ctx, bucket, plan, current.value)
        if bucket.listeners:
            happened(bucket, plan.facts, REMOVED, key, current.value)
        return plan
    marker: Value = {"marker": True, "mtime": int(ctx.clock.time_s())}
    plan = plan_succession(ctx, bucket, key, current, marker, bucket.tables.markers)
    plan.answer = {"DeleteMarker": True, "VersionId": version_of(marker)}
    return plan


def plan_succession(ctx: Context, bucket: Bucket, key: str, current: Found | None, value: Value, table: Table) -> Plan:
    """`value` becomes current in `table`; what was current is kept or dropped as versioning says.

    The caller has checked its conditions against the same `current`.
    """
    plan = Plan()
    versioning = bucket.versioning
    if versioning:
        now = int(ctx.clock.time_s() * 1_000_000)
        value["seq"] = seq = now if current is None else max(now, seq_of(current.value) + 1)
        if versioning == "Enabled":
            value["ver"] = complement(seq) + ctx.ids.hex(16)
    if bucket.zone:
        value.setdefault("head", {})["StorageClass"] = CLASS
    if bucket.has_lock and table is bucket.tables.objects:
        lock_by_default(bucket.value[SETTING], value, ctx.clock.now())
    if bucket.listeners:
        happened(bucket, plan.facts, MARKED if "marker" in value else CREATED, key, value)
    if current is None:
        plan.changes.append(Insert(table, key, value))
        if versioning:
            other = bucket.tables.markers if table is bucket.tables.objects else bucket.tables.objects
            plan.changes.append(Expect(other, key, 0))
        return plan
    if current.table is table:
        plan.changes.append(Update(table, key, value, current.row.version))
    else:
        plan.changes += (Delete(current.table, key, current.row.version), Insert(table, key, value))
    if not versioning or (versioning == "Suspended" and "ver" not in current.value):
        drop(ctx, bucket, plan, current.value)
    else:
        retire(bucket, key, plan, current.value)
        if versioning == "Suspended":
            drop_null(ctx, bucket, key, plan)
    return plan


def plan_delete_version(ctx: Context, bucket: Bucket, key: str, version_id: str, may_bypass: bool = False) -> Plan:
    """Delete one version for good; when it was current the newest older one takes its place.

    may_bypass: whether a governance lock does not count. Errors: AccessDenied - object lock protects the version.
    """
    places = (bucket.tables.objects, bucket.tables.markers)
    rows = [(table, ctx.store.get(table, key)) for table in places]
    found = find_version(ctx, bucket, key, check_version_id(version_id))
    if found is None:
        # It may have become current while we looked: it is missing only if what is current is still the same when this is written.
        gone = Plan(answer={"VersionId": version_id})
        gone.changes += [Expect(table, key, row.version if row is not None else 0) for table, row in rows]
        return gone
    if bucket.has_lock:
        check_removable(found.value, ctx.clock.now(), may_bypass)
    plan = Plan(answer={"VersionId": version_id})
    if is_marker(found.value):
        plan.answer["DeleteMarker"] = True
    if bucket.listeners:
        happened(bucket, plan.facts, REMOVED, key, found.value)
    drop(ctx, bucket, plan, found.value)
    if not found.is_current:
        plan.changes.append(Delete(found.table, found.row.id, found.row.version))
        if version_id == "null":
            plan.changes.append(Delete(bucket.tables.nulls, key))
        return plan
    older = ctx.store.scan(bucket.tables.versions, prefix=f"{key}\0", limit=1) if bucket.versioning else []
    if not older:
        plan.changes.append(Delete(found.table, key, found.row.version))
        return plan
    heir = older[0]
    table = bucket.tables.markers if is_marker(heir.value) else bucket.tables.objects
    if table is found.table:
        plan.changes.append(Update(table, key, heir.value, found.row.version))
    else:
        plan.changes += (Delete(found.table, key, found.row.version), Insert(table, key, heir.value))
    plan.changes.append(Delete(bucket.tables.versions, heir.id, heir.version))
    if "ver" not in heir.value:
        plan.changes.append(Delete(bucket.tables.nulls, key))
    return plan


def plan_replica(ctx: Context, bucket: Bucket, key: str, value: Value, table: Table) -> Plan:
    """A version that was made in another bucket takes the place that its sequence gives it; nothing when it is there already."""
    if find_version(ctx, bucket, key, version_of(value)) is not None:
        return Plan()
    current = find_current(ctx, bucket, key)
    other = bucket.tables.markers if table is bucket.tables.objects else bucket.tables.objects
    plan = Plan()
    if bucket.listeners:
        happened(bucket, plan.facts, MARKED if "marker" in value else CREATED, key, value)
    if current is None:
        plan.changes += (Insert(table, key, value), Expect(other, key, 0))
    elif seq_of(current.value) >= seq_of(value):
        plan.changes.append(Expect(current.table, key, current.row.version))
        retire(bucket, key, plan, value)
    else:
        if current.table is table:
            plan.changes.append(Update(table, key, value, current.row.version))
        else:
            plan.changes += (Delete(current.table, key, current.row.version), Insert(table, key, value))
        retire(bucket, key, plan, current.value)
    return plan


def drop(ctx: Context, bucket: Bucket, plan: Plan, value: Value) -> None:
    """This version goes, with its bytes; its class may charge for having it too short a time."""
    if "head" in value and "StorageClass" in value["head"]:
        plan.changes += early_end(ctx, bucket, value)
    names = list(names_of(ctx, value))
    plan.changes += forgetting(names)
    plan.garbage += names


def retire(bucket: Bucket, key: str, plan: Plan, value: Value) -> None:
    """What was current joins the older versions."""
    at = complement(seq_of(value))
    plan.changes.append(Insert(bucket.tables.versions, f"{key}\0{at}", value))
    if "ver" not in value:
        plan.changes.append(Put(bucket.tables.nulls, key, {"at": at}))


def drop_null(ctx: Context, bucket: Bucket, key: str, plan: Plan) -> None:
    """A new null version replaces the one among the older versions."""
    pointer = ctx.store.get(bucket.tables.nulls, key)
    if pointer is None:
        return
    old = ctx.store.get(bucket.tables.versions, f"{key}\0{pointer.value['at']}")
    if old is None:
        raise Conflict("The null version was changed by somebody else.")
    drop(ctx, bucket, plan, old.value)
    plan.changes += (Delete(bucket.tables.versions, old.id, old.version), Delete(bucket.tables.nulls, key, pointer.version))


# -- carrying out ---------------------------------------------------------------------------------------------------------


async def carry_out(ctx: Context, name: str, key: str, make: Callable[[Bucket], Plan]) -> Plan:
    """Plan and commit; again when somebody else changed the key or the bucket in between. `make` may raise to leave all as it was."""
    plan = await attempt(ctx, name, make)
    if plan is not None:
        return plan
    async with queue_for(ctx, name, key):
        for _ in range(ATTEMPTS):
            plan = await attempt(ctx, name, make)
            if plan is not None:
                return plan
    raise aborted()


def queue_for(ctx: Context, name: str, key: str) -> asyncio.Lock:
    """Where writers that met on one key wait for each other instead of racing again; it goes with the last of them."""
    queues: WeakValueDictionary[tuple[str, str], asyncio.Lock] | None = ctx.cloud.memory.get("s3:queues")
    if queues is None:
        queues = ctx.cloud.memory["s3:queues"] = WeakValueDictionary()
    queue = queues.get((name, key))
    if queue is None:
        queue = queues[(name, key)] = asyncio.Lock()
    return queue


def carry_out_now(ctx: Context, name: str, make: Callable[[Bucket], Plan]) -> Plan:
    """The same for threads."""
    for _ in range(ATTEMPTS):
        bucket = writable_bucket(ctx, name)
        try:
            plan = make(bucket)
            if plan.changes:
                ctx.write(bucket.unchanged(), *plan.changes, *recordings(ctx, bucket, plan.facts))
        except (Conflict, AlreadyExists, NotFound):
            continue
        if plan.facts:
            wake(ctx, bucket)
        release_now(ctx, plan.garbage)
        return plan
    raise aborted()


async def attempt(ctx: Context, name: str, make: Callable[[Bucket], Plan]) -> Plan | None:
    """The plan once it is durable; None when it lost a race."""
    bucket = writable_bucket(ctx, name)
    try:
        plan = make(bucket)
        if plan.changes:
            if plan.facts:
                plan.changes += recordings(ctx, bucket, plan.facts)
            await ctx.store.commit([bucket.unchanged(), *plan.changes])
    except (Conflict, AlreadyExists, NotFound):
        return None
    if plan.facts:
        wake(ctx, bucket)
    if any(map(is_file, plan.garbage)):
        await release(ctx, plan.garbage)
    return plan
