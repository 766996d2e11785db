"""S3's side of the short way: which buckets and objects have nothing rare about them, and their bytes.

    name --place--> Place     no lists, lock, zone, access point, requester who pays, rules that announce, nobody who watches
    key  --card--> Card       what GetObject and HeadObject answer, as `object.describe` says it, kept while the row stays the same
         --read--> bytes      opened and checked at each read; no plaintext is kept

Whatever is not plain is None here, and goes the long way.
"""

from __future__ import annotations

from typing import Any

from pilvi.core.errors import PilviError
from pilvi.core.service import Cloud, Context
from pilvi.core.shortcut import Card, Place
from pilvi.services.s3.attributes import checksum_of
from pilvi.services.s3.catalog import BUCKET_SERVICE, Bucket, Cache
from pilvi.services.s3.class_answers import LIFECYCLE
from pilvi.services.s3.condition import range_of
from pilvi.services.s3.content import INLINE_MARK, NOW_BYTES, Segment, overlaps
from pilvi.services.s3.entry import REQUESTER_PAYS
from pilvi.services.s3.history import Found, segments_of
from pilvi.services.s3.object import describe
from pilvi.storage.records import Row
from pilvi.storage.records.batch import decode

CARDS = 8192
"""How many are kept; as many rows are at hand without the database (storage.records.cache)."""
SEGMENTS = 1024
"""Objects of more parts go the long way, as their list would take memory."""

RARE_ROW = frozenset({"enc", "repl", "lock", "hold", "restore", "tier", "marker"})
"""Members of an object's row that make its answer depend on time, on the caller, or on keys of its own."""


class ObjectsShortWay:
    """One for the process; it holds nothing that its store does not say."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._made = 0
        """Places and cards since the last time that all were let go."""

    def place(self, cloud: Cloud, name: str) -> Place | None:
        cache: Cache | None = cloud.memory.get("s3")
        if cache is None or cache.generation != cloud.store.generation(BUCKET_SERVICE):
            return None
        bucket = cache.buckets.get(name)
        if bucket is None:
            return None
        place = self._places.get(name)
        if place is None or place.bucket is not bucket:
            self._count()
            place = Place(bucket, is_plain(bucket), bucket.account, bucket.region, bucket.arn, bucket.policy is not None)
            self._places[name] = place
        return place if place.is_plain else None

    def known(self, cloud: Cloud, place: Place, key: str) -> Card | None:
        card = place.cards.get(key)
        if card is None:
            return None
        store: Any = cloud.store
        return card if store.peek(place.bucket.tables.objects, key) is card.stored else None

    def card(self, ctx: Context, place: Place, key: str) -> Card | None:
        bucket: Bucket = place.bucket
        store: Any = ctx.store
        stored: Any = store.peek(bucket.tables.objects, key)
        if stored is None and store.get(bucket.tables.objects, key) is not None:
            stored = store.peek(bucket.tables.objects, key)
        if stored is None or not stored[0]:
            return None
        card = card_of(ctx, bucket, key, stored)
        if card is not None:
            self._count()
            place.cards[key] = card
        return card

    def _count(self) -> None:
        self._made += 1
        if self._made > CARDS:
            self._made = 0
            for place in self._places.values():
                place.cards.clear()
            self._places.clear()

    def span(self, card: Card, wanted: str) -> tuple[int, int] | None:
        try:
            return range_of(wanted, card.size)
        except PilviError:
            return None

    def read(self, cloud: Cloud, card: Card, start: int, end: int) -> bytes | None:
        if start == end:
            return b""
        if len(card.segments) == 1:
            name, low, high = card.segments[0].name, start, end
        else:
            pieces = list(overlaps(card.segments, start, end))
            if len(pieces) != 1:
                return None
            name, low, high = pieces[0]
        try:
            if name.startswith(INLINE_MARK):
                sealed = cloud.store.body(name)
                if sealed is None:
                    return None
                data: bytes = cloud.keyring.unseal(sealed, name.encode())
                return data if high - low == len(data) else data[low:high]
            return cloud.blobs.read_now(name, low, high) if high - low <= NOW_BYTES else None
        except PilviError:
            return None  # gone or damaged in this moment: the long way looks again, mends, and says it


def is_plain(bucket: Bucket) -> bool:
    value = bucket.value
    return not (
        bucket.has_acls
        or bucket.has_lock
        or bucket.zone
        or bucket.point is not None
        or bucket.lens is not None
        or bucket.is_watched
        or REQUESTER_PAYS in value
        or LIFECYCLE in value
        or "_deleting" in value
    )


def card_of(ctx: Context, bucket: Bucket, key: str, stored: Any) -> Card | None:
    """stored: version and encoded value, as the store keeps them."""
    value: dict[str, Any] = decode(stored[1])
    if not RARE_ROW.isdisjoint(value) or "StorageClass" in value.get("head", ()) or value.get("n", 0) > SEGMENTS:
        return None
    found = Found(Row(key, value, stored[0]), bucket.tables.objects, True)
    answer, _, size = describe(ctx, {"Bucket": bucket.name, "Key": key}, found)
    del answer["ContentLength"]
    segments = (Segment(value["at"], size),) if "at" in value else tuple(segments_of(ctx, value))
    return Card(stored, answer, checksum_of(value), segments, size)
