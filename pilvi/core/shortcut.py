"""The short way of plain object requests: what gateway and service tell each other there (pilvi.gateway.shortcut)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pilvi.core.service import Cloud, Context


class Place:
    """A bucket about which nothing is rare, as far as a request needs to know before it is permitted. Never changed."""

    __slots__ = ("account", "arn", "bucket", "cards", "has_policy", "is_plain", "region")

    def __init__(self, bucket: Any, is_plain: bool, account: str, region: str, arn: str, has_policy: bool) -> None:
        self.bucket = bucket
        """The service's own view of it; another one is made whenever any bucket's row changes."""
        self.is_plain = is_plain
        self.account = account
        self.region = region
        self.arn = arn
        self.has_policy = has_policy
        self.cards: dict[str, Card] = {}
        """By key."""


class Card:
    """An object as last read, good while its row is the very one it was made of."""

    __slots__ = ("answer", "lines", "lines_with_sums", "segments", "size", "stored", "sums")

    def __init__(self, stored: Any, answer: Mapping[str, Any], sums: Mapping[str, Any], segments: Any, size: int) -> None:
        self.stored: Any = stored
        """The row as the store keeps it: compared by identity, so that a row written anew is another one."""
        self.answer = answer
        """What every read says of it, but for the length."""
        self.sums = sums
        """What a read of the whole says besides, where checksums are asked for."""
        self.segments = segments
        self.size = size
        self.lines = b""
        self.lines_with_sums = b""
        """Both as header lines, once somebody needed them."""


class ShortWay(Protocol):
    """A service's side of it. None, every time: not plain, so the request goes the long way, which decides everything anew."""

    def place(self, cloud: Cloud, name: str) -> Place | None:
        """The bucket of this name."""

    def known(self, cloud: Cloud, place: Place, key: str) -> Card | None:
        """The object that a read without conditions means, where it was read before and its row is still the same."""

    def card(self, ctx: Context, place: Place, key: str) -> Card | None:
        """The same, made of its row."""

    def span(self, card: Card, wanted: str) -> tuple[int, int] | None:
        """The bytes that a Range header means."""

    def read(self, cloud: Cloud, card: Card, start: int, end: int) -> bytes | None:
        """Bytes of it, checked, without waiting."""
