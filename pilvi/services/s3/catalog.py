"""Where everything of S3 is kept, and the cached look-up of buckets.

    ("", "", "s3bucket", "Bucket")             name               -> Bucket: owner, Region, and every setting in one row
    (account, "", "s3bucket", "OwnBucket")     name               -> the same bucket in its owner's list
    (account, region, "s3", "Object:NAME")     key                -> the current version of an object
    (account, region, "s3", "Marker:NAME")     key                -> the delete marker, where that is what is current
    (account, region, "s3", "Version:NAME")    key NUL sequence   -> older versions, newest first
    (account, region, "s3", "Null:NAME")       key                -> where among the older versions the null one lies
    (account, region, "s3", "Upload:NAME")     key NUL upload id  -> a multipart upload in progress
    (account, region, "s3", "Part:NAME")       upload id / number -> its parts

Bucket rows live under a service name of their own so that the store's generation of "s3bucket" changes only with them:
every request looks its bucket up, and writing objects must not empty that cache.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from pilvi.core.arn import partition_of
from pilvi.core.service import Context
from pilvi.services.s3.errors import aborted, no_such_bucket
from pilvi.services.s3.public import is_public_policy
from pilvi.storage.records import Expect, Table

SERVICE = "s3"
BUCKET_SERVICE = "s3bucket"
BUCKETS = Table("", "", BUCKET_SERVICE, "Bucket")

LISTENERS = {"Replication": "s3/replication"}
"""Settings of a bucket, and the consumers of facts that listen because of them."""

DELETING_S = 30.0
"""How long a bucket being deleted refuses writes; a mark older than this was left by a crash."""


class Tables(NamedTuple):
    """The tables of one bucket."""

    objects: Table
    markers: Table
    versions: Table
    nulls: Table
    uploads: Table
    parts: Table


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as one cached row."""

    name: str
    account: str
    region: str
    value: dict[str, Any]
    """The row, API-shaped: CreationDate, Versioning, Policy, PublicAccessBlock, Tags ..."""
    version: int
    tables: Tables
    arn: str
    policy: dict[str, Any] | None
    """The policy document, decoded."""
    is_public: bool
    """Whether that policy grants the public something."""
    listeners: tuple[str, ...]
    """Consumers of facts (pilvi.events) that its settings name; mostly none."""

    @property
    def versioning(self) -> str:
        """'' (never enabled), Enabled or Suspended."""
        return str(self.value.get("Versioning", ""))

    def object_arn(self, key: str) -> str:
        return f"{self.arn}/{key}"

    def unchanged(self) -> Expect:
        """A change that fails the transaction when the bucket was altered or deleted meanwhile."""
        return Expect(BUCKETS, self.name, self.version)


@dataclass(slots=True)
class Cache:
    """Buckets as last read, good for one generation of the bucket tables."""

    generation: int = -1
    buckets: dict[str, Bucket] = field(default_factory=dict)


def find_bucket(ctx: Context, name: str) -> Bucket | None:
    """The bucket of this name, whoever owns it; a dictionary look-up while no bucket changes."""
    memory = ctx.cloud.memory
    cache: Cache | None = memory.get("s3")
    if cache is None:
        cache = memory.setdefault("s3", Cache())
    generation = ctx.store.generation(BUCKET_SERVICE)
    if cache.generation != generation:
        cache = memory["s3"] = Cache(generation)
    bucket = cache.buckets.get(name)
    if bucket is None:
        bucket = read_bucket(ctx, name)
        if bucket is not None:
            cache.buckets[name] = bucket
    return bucket


def get_bucket(ctx: Context, name: str) -> Bucket:
    """The same, or NoSuchBucket."""
    bucket = find_bucket(ctx, name)
    if bucket is None:
        raise no_such_bucket(name)
    return bucket


def writable_bucket(ctx: Context, name: str) -> Bucket:
    """A bucket to write into: OperationAborted while it is being deleted."""
    bucket = get_bucket(ctx, name)
    if (since := bucket.value.get("_deleting")) is not None and ctx.clock.real_s() - since < DELETING_S:
        raise aborted()
    return bucket


def read_bucket(ctx: Context, name: str) -> Bucket | None:
    row = ctx.store.get(BUCKETS, name)
    if row is None:
        return None
    account, region = row.value["Account"], row.value["Region"]
    policy = row.value.get("_policy")
    return Bucket(
        name,
        account,
        region,
        row.value,
        row.version,
        Tables(*(Table(account, region, SERVICE, f"{noun}:{name}") for noun in NOUNS)),
        f"arn:{partition_of(region)}:s3:::{name}",
        policy,
        policy is not None and is_public_policy(policy),
        tuple(consumer for setting, consumer in LISTENERS.items() if row.value.get(setting)),
    )


NOUNS = ("Object", "Marker", "Version", "Null", "Upload", "Part")


def own_buckets(account: str) -> Table:
    """The list of an account's buckets."""
    return Table(account, "", BUCKET_SERVICE, "OwnBucket")


@lru_cache(1024)
def canonical_id(account: str) -> str:
    """The canonical user id of an account: 64 hexadecimal digits that always stand for it."""
    return hashlib.sha256(f"canonical user {account}".encode()).hexdigest()


def owner_of(bucket: Bucket) -> dict[str, str]:
    """Every object belongs to the bucket's owner (BucketOwnerEnforced)."""
    return {"ID": canonical_id(bucket.account)}
