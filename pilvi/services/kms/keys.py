"""The cached look-up of keys: by id, ARN or alias, with policy, tags and grants; and their material, open for use.

    (account, region, "kms", "Key")        key id            -> a key in this Region: description, state, policy, its aliases
    (account, "",     "kms", "Material")   key id            -> its material; what all Regions of a multi-Region key share
    (account, region, "kms", "Alias")      alias name        -> the key it stands for
    (account, region, "kms", "Grant")      key id / grant id -> a grant
    (account, region, "kms", "Tags")       key ARN           -> its tags

Everything found stays in memory until any row of KMS changes (one generation of the store), so a data-plane call looks up two
dictionaries. A key whose waiting period is over is not there, whether or not its rows have been swept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.serialization import load_der_private_key

from pilvi.core.arn import Arn, partition_of
from pilvi.core.errors import AlreadyExists, NotFound
from pilvi.core.service import Context
from pilvi.services.kms import managed
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.errors import (
    disabled,
    invalid_arn,
    invalid_key_id,
    invalid_state,
    no_alias,
    no_key,
    other_region,
    wrong_usage,
)
from pilvi.services.kms.material import open_version
from pilvi.storage.records import Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

SERVICE = "kms"
Row = dict[str, Any]
_KEY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")
ENABLED, DISABLED = "Enabled", "Disabled"
PENDING_DELETION, PENDING_IMPORT, PENDING_REPLICAS = "PendingDeletion", "PendingImport", "PendingReplicaDeletion"


class Place(NamedTuple):
    """What a KeyId in a request stands for, before anybody looked whether it is there."""

    account: str
    region: str
    key_id: str
    alias: str
    """The alias by which it was called, or ''."""

    @property
    def arn(self) -> str:
        return arn_of(self.account, self.region, f"key/{self.key_id}")

    @property
    def alias_arn(self) -> str:
        return arn_of(self.account, self.region, self.alias)


@dataclass(frozen=True, slots=True)
class Key:
    """A key in one Region, as it stands in the store."""

    account: str
    region: str
    id: str
    arn: str
    row: Row
    shared: Row
    policy: dict[str, Any]
    tags: dict[str, str]
    grants: tuple[Row, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """What policies may ask of it: condition keys; filled in by access.py when first asked."""

    @property
    def spec(self) -> str:
        return str(self.row["KeySpec"])

    @property
    def usage(self) -> str:
        return str(self.row["KeyUsage"])

    @property
    def is_managed(self) -> bool:
        return bool(self.row["KeyManager"] == "AWS")

    @property
    def is_external(self) -> bool:
        return bool(self.row["Origin"] == "EXTERNAL")

    def state(self, now: datetime) -> str:
        """AWS's word for it; '' when the waiting period is over and the key is no more."""
        return state_of(self.row, self.shared, now)

    def version(self, material_id: str = "") -> Row | None:
        """The version of its material that encrypts now, or one by the beginning of its id."""
        wanted = material_id or self.shared["current"]
        return next((version for version in self.shared["materials"] if version["id"].startswith(wanted)), None)


@dataclass(slots=True)
class Known:
    """What is in memory of one generation of the store."""

    generation: int
    keys: dict[tuple[str, str, str], Key] = field(default_factory=dict)
    aliases: dict[tuple[str, str, str], str] = field(default_factory=dict)
    opened: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    """Material by account, key id and version. In memory only."""
    private: dict[tuple[str, str], Any] = field(default_factory=dict)
    """Private keys of asymmetric keys."""


# -- where ------------------------------------------------------------------------------------------------------------------


def arn_of(account: str, region: str, resource: str) -> str:
    return f"arn:{partition_of(region)}:kms:{region}:{account}:{resource}"


def place_of(ctx: Context, text: str, *, aliases: bool = True) -> Place:
    """What a KeyId names: a key id, a key's ARN, and where the operation takes them an alias or its ARN.

    NotFoundException for what can be none, or lies in another Region; InvalidArnException for ARNs of other things.
    """
    account, region, resource = ctx.account, ctx.region, text
    if text.startswith("arn:"):
        arn = Arn.parse(text)
        if arn is None or arn.service != SERVICE or not arn.resource.startswith(("key/", "alias/")):
            raise invalid_arn(text)
        if arn.region != region:
            raise other_region(arn.region)
        account, resource = arn.account, arn.resource.removeprefix("key/")
    if resource.startswith("alias/"):
        if not aliases:
            raise invalid_key_id(text) if resource is text else invalid_arn(text)
        return Place(account, region, _target_of(ctx, account, region, resource), resource)
    if _KEY_ID.fullmatch(resource) is None:
        raise invalid_key_id(resource)
    return Place(account, region, resource, "")


def _target_of(ctx: Context, account: str, region: str, alias: str) -> str:
    """The key an alias stands for. AWS's own aliases exist before their keys do, which are made at their first use."""
    known = known_of(ctx.cloud)
    target = known.aliases.get((account, region, alias))
    if target is None:
        row = ctx.store.get(Table(account, region, SERVICE, "Alias"), alias)
        target = row.value["TargetKeyId"] if row is not None else managed.key_id_for(account, region, alias)
        if not target:
            raise no_alias(arn_of(account, region, alias))
        known.aliases[account, region, alias] = target
    return target


# -- what -------------------------------------------------------------------------------------------------------------------


def known_of(cloud: Cloud) -> Known:
    generation = cloud.store.generation(SERVICE)
    known: Known | None = cloud.memory.get(SERVICE)
    if known is None or known.generation != generation:
        known = cloud.memory[SERVICE] = Known(generation)
    return known


def look(cloud: Cloud, account: str, region: str, key_id: str) -> Key | None:
    """A key, or None. Gone when its waiting period is over."""
    known = known_of(cloud)
    address = (account, region, key_id)
    key = known.keys.get(address)
    if key is None:
        key = load(cloud, account, region, key_id)
        if key is not None:  # of ids that lead nowhere there is no end
            known.keys[address] = key
    return None if key is None or ("_deletes" in key.row and not key.state(cloud.clock.now())) else key


def load(cloud: Cloud, account: str, region: str, key_id: str) -> Key | None:
    """A key as it stands in the store just now."""
    row = cloud.store.get(Table(account, region, SERVICE, "Key"), key_id)
    if row is None:
        return None
    shared = cloud.store.get(Table(account, "", SERVICE, "Material"), key_id)
    assert shared is not None
    arn = arn_of(account, region, f"key/{key_id}")
    tags = cloud.store.get(Table(account, region, SERVICE, "Tags"), arn)
    grants = cloud.rows(account, region, SERVICE, "Grant").all(prefix=f"{key_id}/")
    return Key(
        account,
        region,
        key_id,
        arn,
        row.value,
        shared.value,
        json.loads(row.value["_policy"]),
        {tag["Key"]: tag["Value"] for tag in tags.value["Tags"]} if tags is not None else {},
        tuple(grants),
    )


def find(ctx: Context, text: str, *, aliases: bool = True) -> Key:
    """The key a KeyId names. NotFoundException when there is none."""
    place = place_of(ctx, text, aliases=aliases)
    key = look(ctx.cloud, place.account, place.region, place.key_id)
    if key is None:
        raise no_key(place.arn)
    return key


async def find_or_begin(ctx: Context, text: str) -> Key:
    """`find` on the loop; a key that AWS manages is made when its alias is first used."""
    place = place_of(ctx, text)
    key = look(ctx.cloud, place.account, place.region, place.key_id)
    if key is None and managed.service_of(place.alias):
        with suppress(AlreadyExists):  # somebody else has just used it first
            await ctx.store.commit(managed.changes(ctx.cloud, place.account, place.region, place.alias))
        key = look(ctx.cloud, place.account, place.region, place.key_id)
    if key is None:
        raise no_key(place.arn)
    return key


def check_usable(ctx: Context, key: Key, usage: str, operation: str) -> None:
    """DisabledException, KMSInvalidStateException or InvalidKeyUsageException unless the key may be used for this now."""
    check_state(ctx, key)
    if key.usage != usage:
        raise wrong_usage(key.arn, key.usage, operation)


def check_state(ctx: Context, key: Key) -> None:
    """Only enabled keys work."""
    state = key.state(ctx.clock.now())
    if state == ENABLED:
        return
    if state == DISABLED:
        raise disabled(key.arn)
    raise invalid_state(key.arn, STATE_WORDS[state])


STATE_WORDS: Mapping[str, str] = {
    PENDING_DELETION: "pending deletion",
    PENDING_REPLICAS: "pending replica deletion",
    PENDING_IMPORT: "pending import",
}


def state_of(row: Row, shared: Row, now: datetime) -> str:
    if deletes := row.get("_deletes"):
        return PENDING_DELETION if now < deletes else ""
    if row.get("_waits_for_replicas"):
        return PENDING_REPLICAS
    if row["Origin"] == "EXTERNAL" and not _is_imported(row, shared, now):
        return PENDING_IMPORT
    return ENABLED if row["_enabled"] else DISABLED


def _is_imported(row: Row, shared: Row, now: datetime) -> bool:
    """Whether every version it has ever encrypted with is here, and none has expired."""
    needed = [version["id"] for version in shared["materials"] if version.get("state") != "PENDING"]
    return bool(needed) and all(is_present(row, material_id, now) for material_id in needed)


def is_present(row: Row, material_id: str, now: datetime) -> bool:
    """Whether imported material is in this Region and has not expired."""
    imported = row["_imported"]
    return material_id in imported and not (imported[material_id] is not None and imported[material_id] <= now)


# -- changing ---------------------------------------------------------------------------------------------------------------


def change(ctx: Context, text: str, changed: Callable[[Row], Row], *, not_while: tuple[str, ...] | None = ()) -> Key:
    """Read, change, write a key in the caller's Region; never one that waits for its deletion (None: even that).

    not_while: further states in which it must not change.
    """
    key = find(ctx, text, aliases=False)

    def checked(row: Row) -> Row:
        if not_while is not None:
            check_changeable(ctx, key, row, not_while)
        return changed(row)

    try:
        ctx.records("Key", account=key.account).update(key.id, checked)
    except NotFound:
        raise no_key(key.arn) from None
    return key


def check_changeable(ctx: Context, key: Key, row: Row, not_while: tuple[str, ...] = ()) -> None:
    """KMSInvalidStateException while a key waits for its deletion, or is in one of these states."""
    state = state_of(row, key.shared, ctx.clock.now())
    if state == "":
        raise no_key(key.arn)
    if state in (PENDING_DELETION, PENDING_REPLICAS, *not_while):
        raise invalid_state(key.arn, STATE_WORDS[state])


# -- material ---------------------------------------------------------------------------------------------------------------


def material_of(cloud: Cloud, key: Key, version: Row) -> bytes:
    """One version of a key's material, open."""
    known = known_of(cloud)
    address = (key.account, key.id, version["id"])
    found = known.opened.get(address)
    if found is None:
        found = known.opened[address] = open_version(cloud.keyring, key.account, key.id, version)
    return found


def current_material(cloud: Cloud, key: Key) -> tuple[str, bytes]:
    """The id and the bytes of what encrypts now."""
    version = key.version()
    assert version is not None
    return version["id"], material_of(cloud, key, version)


def private_key_of(cloud: Cloud, key: Key) -> Any:
    """The private key of an asymmetric key."""
    assert kinds.is_asymmetric(key.spec)
    known = known_of(cloud)
    found = known.private.get((key.account, key.id))
    if found is None:
        found = known.private[key.account, key.id] = load_der_private_key(current_material(cloud, key)[1], None)
    return found
