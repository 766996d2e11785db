"""Where everything of S3 is kept, and the cached look-up of buckets.

    ("", "", "s3bucket", "Bucket")             name               -> Bucket: owner, Region, and every setting in one row
    (account, "", "s3bucket", "OwnBucket")     name               -> the same bucket in its owner's list
    (account, region, "s3bucket", "OwnDirectory")  name           -> its directory buckets in a Region
    (account, "", "s3bucket", "Account")       setting            -> what holds for all its buckets (pilvi.services.s3control)
    ("", "", "s3bucket", "AccessPoint")        ARN                -> access points, and Alias: alias -> ARN (the same)
    ("", "", "s3bucket", "ObjectLambda")       ARN                -> Object Lambda access points; their aliases are with the others
    ("", "", "s3bucket", "VpcEndpoint")        id                 -> ways to S3 out of a VPC (pilvi.services.ec2)
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

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pilvi.auth.principals import canonical_id
from pilvi.auth.public import is_public_policy
from pilvi.core.arn import partition_of
from pilvi.core.service import Context
from pilvi.services.s3.directory_rules import arn_of
from pilvi.services.s3.errors import aborted, no_such_bucket
from pilvi.storage.records import Expect, Row, Table

SERVICE = "s3"
BUCKET_SERVICE = "s3bucket"
BUCKETS = Table("", "", BUCKET_SERVICE, "Bucket")
POINTS = Table("", "", BUCKET_SERVICE, "AccessPoint")
"""Access points by their ARN; S3 Control writes them."""
ALIASES = Table("", "", BUCKET_SERVICE, "Alias")
LENSES = Table("", "", BUCKET_SERVICE, "ObjectLambda")
"""Object Lambda access points by their ARN; S3 Control writes them."""
VPC_ENDPOINTS = Table("", "", BUCKET_SERVICE, "VpcEndpoint")
"""Gateways and interfaces to S3 by their id; EC2 writes them."""

LISTENERS = {"Replication": "s3/replication", "NotificationConfiguration": "s3/notifications", "EventBridge": "events/told"}
"""Settings of a bucket, and the consumers of facts that listen because of them."""

WATCHING = ("Logging", "MetricsConfigurations", "AnalyticsConfigurations")
"""Settings that want to know of every request."""
WATCHED = "s3:watched"
"""In memory once a bucket with such settings was read."""

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


class Block(NamedTuple):
    """The four switches of block public access."""

    block_acls: bool = False
    ignore_acls: bool = False
    block_policy: bool = False
    restrict: bool = False


SWITCHES = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def block_of(*levels: dict[str, Any] | None) -> Block:
    """The strictest of several settings."""
    return Block(*(any(level is not None and level.get(name) for level in levels) for name in SWITCHES))


class Point(NamedTuple):
    """An access point, as far as requests through it need to know."""

    arn: str
    account: str
    policy: dict[str, Any] | None
    is_public: bool
    vpc: str
    """The VPC it may be used from; '' for anywhere."""


class Lens(NamedTuple):
    """An Object Lambda access point: functions before an access point."""

    arn: str
    name: str
    account: str
    policy: dict[str, Any] | None
    supporting: str
    """ARN of the access point behind it."""
    supporting_alias: str
    functions: dict[str, tuple[str, str]]
    """Operation -> function and payload."""
    features: frozenset[str]
    """GetObject-Range and the like: what functions say they know."""


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
    zone: str
    """The Availability Zone of a directory bucket; '' for general purpose buckets."""
    has_lock: bool
    """Whether it has object lock (lock_rules.py)."""
    ownership: str
    """BucketOwnerEnforced, BucketOwnerPreferred or ObjectWriter; '' once its controls were deleted, which means the last."""
    has_acls: bool
    """Whether access control lists count."""
    block: Block
    """Block public access, as bucket, account and access point say together."""
    denies: dict[str, Any] | None
    """The statements of the policy that deny: all that binds what other accounts own in it."""
    point: Point | None
    """The access point that this look-up came through."""
    is_watched: bool
    """Whether somebody keeps account of its requests (witness.py)."""
    lens: Lens | None
    """The Object Lambda access point before that one."""

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
    """The bucket of this name, or behind the access point of this ARN or alias."""
    if name.startswith("arn:") or name.endswith(("-s3alias", "--ol-s3")):
        return read_point(ctx, name)
    row = ctx.store.get(BUCKETS, name)
    return None if row is None else bucket_of(ctx, row, None, None)


def bucket_of(ctx: Context, row: Row, point: Point | None, switches: dict[str, Any] | None, lens: Lens | None = None) -> Bucket:
    """switches: those of the access point and its account, which count beside the bucket's."""
    name, value = row.id, row.value
    account, region = value["Account"], value["Region"]
    policy = value.get("_policy")
    ownership = value.get("ObjectOwnership", ENFORCED)
    is_watched = any(member in value for member in WATCHING)
    if is_watched:
        ctx.cloud.memory[WATCHED] = True
    return Bucket(
        name,
        account,
        region,
        value,
        row.version,
        Tables(*(Table(account, region, SERVICE, f"{noun}:{name}") for noun in NOUNS)),
        arn_of(region, account, name) if "Zone" in value else f"arn:{partition_of(region)}:s3:::{name}",
        policy,
        policy is not None and is_public_policy(policy),
        tuple(consumer for setting, consumer in LISTENERS.items() if value.get(setting)),
        value.get("Zone", ""),
        "ObjectLockConfiguration" in value,
        ownership,
        ownership != ENFORCED,
        block_of(value.get("PublicAccessBlock"), account_switches(ctx, account), switches),
        denials_of(policy),
        point,
        is_watched,
        lens,
    )


ENFORCED = "BucketOwnerEnforced"


def account_switches(ctx: Context, account: str) -> dict[str, Any] | None:
    """Block public access of a whole account, as S3 Control keeps it."""
    row = ctx.store.get(Table(account, "", BUCKET_SERVICE, "Account"), "PublicAccessBlock")
    return row.value if row is not None else None


def denials_of(policy: dict[str, Any] | None) -> dict[str, Any] | None:
    if policy is None:
        return None
    listed = policy["Statement"]
    statements = listed if isinstance(listed, list) else [listed]
    denies = [statement for statement in statements if statement.get("Effect") == "Deny"]
    return {**policy, "Statement": denies} if denies else None


def read_point(ctx: Context, name: str) -> Bucket | None:
    """The bucket behind an access point; none when it is not there any more, or belongs to somebody else now."""
    id = name
    if not name.startswith("arn:"):
        alias = ctx.store.get(ALIASES, name)
        if alias is None:
            return None
        id = str(alias.value["Arn"])
    lens: Lens | None = None
    if ":s3-object-lambda:" in id:
        lens = read_lens(ctx, id)
        if lens is None:
            return None
        id = lens.supporting
    found = ctx.store.get(POINTS, id)
    if found is None:
        return None
    value = found.value
    row = ctx.store.get(BUCKETS, value["Bucket"])
    if row is None or row.value["Account"] != value["BucketAccountId"]:
        return None
    policy = value.get("_policy")
    vpc = (value.get("VpcConfiguration") or {}).get("VpcId", "")
    is_public = not vpc and policy is not None and is_public_policy(policy)
    switches = block_of(value["PublicAccessBlockConfiguration"], account_switches(ctx, value["Account"]))
    point = Point(id, value["Account"], policy, is_public, vpc)
    return bucket_of(ctx, row, point, dict(zip(SWITCHES, switches, strict=True)), lens)


def read_lens(ctx: Context, arn: str) -> Lens | None:
    """The Object Lambda access point of this ARN; none when it, or the access point behind it, is not there any more."""
    row = ctx.store.get(LENSES, arn)
    if row is None:
        return None
    value, configuration = row.value, row.value["Configuration"]
    behind = ctx.store.get(POINTS, configuration["SupportingAccessPoint"])
    if behind is None:
        return None
    functions: dict[str, tuple[str, str]] = {}
    for entry in configuration["TransformationConfigurations"]:
        function = entry["ContentTransformation"]["AwsLambda"]
        for action in entry["Actions"]:
            functions[action] = (function["FunctionArn"], function.get("FunctionPayload") or "")
    return Lens(
        arn,
        value["Name"],
        value["Account"],
        value.get("_policy"),
        configuration["SupportingAccessPoint"],
        behind.value["Alias"],
        functions,
        frozenset(configuration["AllowedFeatures"]),
    )


NOUNS = ("Object", "Marker", "Version", "Null", "Upload", "Part")


def own_buckets(account: str) -> Table:
    """The list of an account's buckets."""
    return Table(account, "", BUCKET_SERVICE, "OwnBucket")


def own_directories(account: str, region: str) -> Table:
    """The list of an account's directory buckets in a Region."""
    return Table(account, region, BUCKET_SERVICE, "OwnDirectory")


def owner_of(bucket: Bucket) -> dict[str, str]:
    """The bucket's owner, to whom every object belongs while BucketOwnerEnforced holds."""
    return {"ID": canonical_id(bucket.account)}


def account_of(bucket: Bucket, value: dict[str, Any]) -> str:
    """The account that owns an object."""
    return str(value.get("owner", bucket.account)) if bucket.has_acls else bucket.account


def object_owner(bucket: Bucket, value: dict[str, Any]) -> dict[str, str]:
    return {"ID": canonical_id(account_of(bucket, value))}
