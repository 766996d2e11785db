"""Carrying lifecycle rules out: once a day, page by page over the buckets that have rules.

    rows of a page --lifecycle_rules--> steps --one transaction--> done, or one by one where a writer came in between

A step is decided again on the row it is about to change, so a writer always wins: what was replaced meanwhile is looked at on the
next day. Memory holds one page, whatever the bucket holds. Object lock keeps its versions: history says so, and the walk goes on.
Objects that Intelligent-Tiering sends to its archive tiers go there on the same walk.

Source: S3 User Guide, "Managing the lifecycle of objects".
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pilvi.core.errors import AlreadyExists, Conflict, Denied, NotFound, ServiceError
from pilvi.core.service import Cloud
from pilvi.services.s3.catalog import Bucket, find_bucket
from pilvi.services.s3.charges import early_end, moves
from pilvi.services.s3.class_answers import known_rules
from pilvi.services.s3.classes import in_class
from pilvi.services.s3.content import forgetting, release_now
from pilvi.services.s3.facts import EXPIRATION, happened, recordings, wake
from pilvi.services.s3.history import (
    Plan,
    Value,
    carry_out_now,
    find_current,
    is_marker,
    plan_delete,
    plan_delete_version,
    version_of,
)
from pilvi.services.s3.lifecycle_rules import (
    EXPIRE,
    MEMBER,
    Rule,
    aborts,
    clears_marker,
    step_for_current,
    step_for_noncurrent,
)
from pilvi.services.s3.multipart import ending, parts_of, sweep_parts
from pilvi.services.s3.rounds import each_bucket, own_context
from pilvi.services.s3.tiers import MEMBER as TIERING
from pilvi.services.s3.tiers import archive_due
from pilvi.storage.records import Row, Table, Update

log = logging.getLogger("pilvi.s3")

PAGE = 500

MOVED, ARCHIVED = "LifecycleTransition", "IntelligentTiering"
"""Names of what listeners hear, beside the deletions'."""


class Step(NamedTuple):
    """One thing to do to one key. make: decides on what is there then; no changes when nothing is due any more."""

    key: str
    make: Callable[[Bucket], Plan]
    moved_to: str = ""


@dataclass(slots=True)
class Tally:
    """What a run did, for its log line."""

    counts: Counter[str] = field(default_factory=Counter)


def has_work(cloud: Cloud) -> bool:
    return any(True for _ in ruled_buckets(cloud))


def ruled_buckets(cloud: Cloud) -> Iterator[Bucket]:
    """Buckets with rules, of every account."""
    return (bucket for _, bucket in each_bucket(cloud, EXPIRATION, lambda value: MEMBER in value or TIERING in value))


def run_lifecycle(cloud: Cloud) -> None:
    """The daily run over every bucket."""
    for bucket in ruled_buckets(cloud):
        try:
            Run(cloud, bucket).run()
        except Exception:  # whatever one bucket holds, the others have their day
            log.exception("the lifecycle rules of bucket %s could not be carried out; they are tried again tomorrow", bucket.name)


class Run:
    """One bucket's day."""

    def __init__(self, cloud: Cloud, bucket: Bucket) -> None:
        self._cloud = cloud
        self._ctx = own_context(cloud, bucket.account, bucket.region, EXPIRATION)
        self._bucket = bucket
        self._rules: Sequence[Rule] = known_rules(self._ctx, bucket) if MEMBER in bucket.value else ()
        self._now = cloud.clock.time_s()
        self.tally = Tally()

    def run(self) -> None:
        tables, rules = self._bucket.tables, self._rules
        if TIERING in self._bucket.value or any(rule.moves or rule.expires for rule in rules):
            self._walk(tables.objects, self._steps_of_current)
        if any(rule.old_moves or rule.old_expires for rule in rules):
            self._walk_noncurrent()
        # After the older versions: a marker may be the last that is left of its key.
        if any(rule.expires or rule.clears_markers for rule in rules):
            self._walk(tables.markers, self._steps_of_markers)
        if any(rule.aborts_days is not None for rule in rules):
            self._walk_uploads()

    # -- walking ----------------------------------------------------------------------------------------------------

    def _walk(self, table: Table, steps_of: Callable[[Row], Iterator[Step]]) -> None:
        after = ""
        while (rows := self._ctx.store.scan(table, after=after, limit=PAGE)) and not self._cloud.schedules.is_closing:
            after = rows[-1].id
            self._do([step for row in rows for step in steps_of(row)])

    def _steps_of_current(self, row: Row) -> Iterator[Step]:
        key = row.id
        due = step_for_current(self._rules, key, row.value, self._now)
        if due == EXPIRE:
            yield Step(key, lambda bucket: self._expire(bucket, key))
        elif due is not None:
            yield Step(key, lambda bucket: self._move(bucket, bucket.tables.objects, key, key, due, row.version), due)
        elif archive_due(self._bucket, key, row.value, self._now) is not None:
            yield Step(key, lambda bucket: self._archive(bucket, key))

    def _steps_of_markers(self, row: Row) -> Iterator[Step]:
        key = row.id
        if clears_marker(self._rules, key, row.value, self._now) and not self._has_older(key):
            yield Step(key, lambda bucket: self._clear_marker(bucket, key, row))

    def _walk_noncurrent(self) -> None:
        """Older versions, newest first for each key: one became noncurrent when the next newer one came."""
        store, table = self._ctx.store, self._bucket.tables.versions
        after, key, newer, since = "", "", 0, 0
        while (rows := store.scan(table, after=after, limit=PAGE)) and not self._cloud.schedules.is_closing:
            after = rows[-1].id
            steps: list[Step] = []
            for row in rows:
                row_key = row.id.partition("\0")[0]
                if row_key != key:
                    key, newer = row_key, 0
                    current = find_current(self._ctx, self._bucket, key)
                    since = current.value["mtime"] if current is not None else row.value["mtime"]
                due = step_for_noncurrent(self._rules, key, row.value, since, newer, self._now)
                if due is not None:
                    steps.append(self._step_of_version(key, row, due))
                newer, since = newer + 1, row.value["mtime"]
            self._do(steps)

    def _step_of_version(self, key: str, row: Row, due: str) -> Step:
        version_id = version_of(row.value)
        if due == EXPIRE:
            return Step(key, lambda bucket: plan_delete_version(self._ctx, bucket, key, version_id))
        return Step(key, lambda bucket: self._move(bucket, bucket.tables.versions, row.id, key, due, row.version), due)

    def _walk_uploads(self) -> None:
        ctx, table, after = self._ctx, self._bucket.tables.uploads, ""
        while (rows := ctx.store.scan(table, after=after, limit=PAGE)) and not self._cloud.schedules.is_closing:
            after = rows[-1].id
            for row in rows:
                key, _, upload_id = row.id.partition("\0")
                if aborts(self._rules, key, row.value["at"], self._now):
                    carry_out_now(ctx, self._bucket.name, lambda bucket, row=row, id=upload_id: self._abort(bucket, row, id))  # type: ignore[misc]
                    sweep_parts(ctx, self._bucket.name, upload_id)
                    self.tally.counts["aborted"] += 1

    # -- plans ------------------------------------------------------------------------------------------------------

    def _expire(self, bucket: Bucket, key: str) -> Plan:
        current = find_current(self._ctx, bucket, key)
        if current is None or is_marker(current.value) or step_for_current(self._rules, key, current.value, self._now) != EXPIRE:
            return Plan()
        return plan_delete(self._ctx, bucket, key)

    def _move(self, bucket: Bucket, table: Table, row_id: str, key: str, name: str, version: int) -> Plan:
        row = self._ctx.store.get(table, row_id)
        if row is None or row.version != version:
            return Plan()
        moved = in_class(row.value, name, int(self._now))
        plan = Plan([Update(table, row_id, moved, version), *early_end(self._ctx, bucket, row.value)])
        if bucket.listeners:
            happened(bucket, plan.facts, MOVED, key, moved)
        return plan

    def _archive(self, bucket: Bucket, key: str) -> Plan:
        row = self._ctx.store.get(bucket.tables.objects, key)
        due = archive_due(bucket, key, row.value, self._now) if row is not None else None
        if row is None or due is None:
            return Plan()
        value: Value = {**row.value, "tier": {**(row.value.get("tier") or {}), "archive": due}}
        plan = Plan([Update(bucket.tables.objects, key, value, row.version)])
        if bucket.listeners:
            happened(bucket, plan.facts, ARCHIVED, key, value)
        return plan

    def _clear_marker(self, bucket: Bucket, key: str, seen: Row) -> Plan:
        row = self._ctx.store.get(bucket.tables.markers, key)
        if row is None or row.version != seen.version or self._has_older(key):
            return Plan()
        return plan_delete_version(self._ctx, bucket, key, version_of(row.value))

    def _has_older(self, key: str) -> bool:
        return bool(self._ctx.store.scan(self._bucket.tables.versions, prefix=f"{key}\0", limit=1))

    def _abort(self, bucket: Bucket, seen: Row, upload_id: str) -> Plan:
        row = self._ctx.store.get(bucket.tables.uploads, seen.id)
        if row is None or row.version != seen.version:
            return Plan()
        parts = parts_of(self._ctx, bucket, upload_id)
        garbage = [part.value["at"] for part in parts]
        return Plan([*ending(bucket, row, parts), *forgetting(garbage)], garbage)

    # -- doing ------------------------------------------------------------------------------------------------------

    def _do(self, steps: Sequence[Step]) -> None:
        """All of a page in one transaction; one by one when that meets a writer."""
        if steps and not self._do_together(steps):
            for step in steps:
                self._do_one(step)

    def _do_together(self, steps: Sequence[Step]) -> bool:
        ctx = self._ctx
        bucket = find_bucket(ctx, self._bucket.name)
        if bucket is None or bucket.version != self._bucket.version:
            return False
        plans: list[Plan] = []
        counts: Counter[str] = Counter()
        for step in steps:
            plan = self._planned(step, bucket)
            if plan is not None and plan.changes:
                plans.append(plan)
                counts[step.moved_to] += 1
        facts = [fact for plan in plans for fact in plan.facts]
        changes = [change for plan in plans for change in plan.changes]
        if not changes:
            return True
        moved = {name: count for name, count in counts.items() if name}
        try:
            ctx.write(bucket.unchanged(), *changes, *moves(ctx, bucket, moved), *recordings(ctx, bucket, facts))
        except (Conflict, AlreadyExists, NotFound):
            return False
        if facts:
            wake(ctx, bucket)
        release_now(ctx, [name for plan in plans for name in plan.garbage])
        self.tally.counts += counts
        return True

    def _do_one(self, step: Step) -> None:
        def make(bucket: Bucket) -> Plan:
            plan = self._planned(step, bucket) or Plan()
            if plan.changes and step.moved_to:
                plan.changes += moves(self._ctx, bucket, {step.moved_to: 1})
            return plan

        carry_out_now(self._ctx, self._bucket.name, make)
        self.tally.counts[step.moved_to] += 1

    def _planned(self, step: Step, bucket: Bucket) -> Plan | None:
        """None when object lock keeps the version."""
        if MEMBER in self._bucket.value and bucket.value.get(MEMBER) != self._bucket.value[MEMBER]:
            return None  # other rules hold by now; they have their own day
        try:
            return step.make(bucket)
        except Denied:
            return None
        except ServiceError as error:
            if error.code == "AccessDenied":
                return None
            raise
