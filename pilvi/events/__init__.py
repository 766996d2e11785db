"""The events port: facts kept with the records they came from, and delivered to whoever listens.

    change = ctx.cloud.events.recording(consumer, lane, key, fact)      part of the transaction that makes the fact true
    ... commit ...
    ctx.cloud.events.wake(consumer, lane)                               so that nobody waits for a look-round

A *consumer* is a function of a service ("s3/replication"); a *lane* is what may be slow or broken without holding up the rest of
that consumer (a bucket, a target); a *key* is what keeps its order inside a lane. Every consumer that listens gets an entry of its
own: none waits for another. `Log` is where entries lie: in the records store, where they are written in one transaction with what
they tell of. A service declares its consumers in a module `consumers.py` beside its `__init__`:

    CONSUMERS = (Consumer("s3/replication", replicate),)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pilvi.core.errors import PilviError
from pilvi.storage.records import Change

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

Fact = Mapping[str, Any]
"""What happened, as plain data; a consumer that was away for a day must understand it without asking."""


class GiveUp(PilviError):
    """Raised by a consumer: no further attempt can help. The entry becomes a dead letter at once."""


class Entry(NamedTuple):
    """A fact on its way to one consumer."""

    id: str
    lane: str
    key: str
    fact: Fact
    at: float
    """When it happened, on the product's clock."""
    tries: int
    due: float
    """Not to be tried before this instant of the product's clock."""
    error: str
    """Why the last attempt failed."""
    buried: float = 0.0
    """Of dead letters: when it was given up, on the product's clock."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a consumer's entries are tried. Delays double from `first_s` to `most_s`, and are spread by a quarter."""

    first_s: float = 1.0
    most_s: float = 300.0
    attempts: int = 50
    age_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who takes facts: an async function that returns when the fact has had its effect, or raises to be asked again."""

    name: str
    """`service/purpose`"""
    take: Callable[[Cloud, Fact], Awaitable[None]]
    """May get a fact twice; never gets two facts of one key at the same time, nor the later one first."""
    gave_up: Callable[[Cloud, Fact, str], Awaitable[None]] | None = None
    """Called before a fact becomes a dead letter, with the reason."""
    patience: Patience = Patience()
    parallel: int = 8
    """Keys of one lane in work at the same time."""
    timeout_s: float = 3600.0
    """An attempt that takes longer has failed."""
    failed: Callable[[Cloud, Entry, Exception], Awaitable[float | None]] | None = None
    """Decides after a failed attempt in place of `patience`: seconds until the next one, or None where the consumer has dealt with the
    fact (by a dead letter of its own, say). Where it raises, `patience` counts."""


class Log(Protocol):
    """Where entries lie until they have been taken. pilvi.testing.contracts.events proves these promises for every adapter.

    Methods that write are durable when awaited. None fails because an entry is gone meanwhile. Unavailable while it cannot be reached.
    """

    is_remote: bool
    """Reading waits for another process: on the event loop it is done in a thread."""

    def recording(self, consumer: str, lane: str, key: str, fact: Fact) -> Change:
        """The change that appends an entry: it belongs into the transaction that makes the fact true. Nothing is kept when that
        transaction fails."""

    def consumers(self) -> list[str]:
        """Names of consumers for whom something lies here."""

    def lanes(self, consumer: str) -> list[str]:
        """Lanes that hold entries. Costs one seek a lane, however many entries there are."""

    def read(self, consumer: str, lane: str, limit: int, after: str = "") -> list[Entry]:
        """The oldest entries, in the order in which they were recorded by this process; after: only those behind this id."""

    async def done(self, consumer: str, entry: Entry) -> None:
        """The entry has been taken."""

    async def postpone(self, consumer: str, entry: Entry, due: float, error: str) -> None:
        """One more attempt has failed; the next may come at `due`."""

    async def bury(self, consumer: str, entry: Entry, error: str) -> None:
        """The entry becomes a dead letter, in one step."""

    def dead_consumers(self) -> list[str]:
        """Names of consumers that have dead letters."""

    def dead(self, consumer: str, *, after: str = "", limit: int = 100) -> list[Entry]:
        """Dead letters, oldest first within a lane."""

    async def revive(self, consumer: str, entry: Entry) -> None:
        """A dead letter is to be delivered after all, as if it were new."""

    async def forget(self, consumer: str, entry: Entry) -> None:
        """A dead letter is not wanted any more."""

    def start(self) -> None:
        """The server begins to deliver."""

    def close(self) -> None:
        """Let go of what is outside; what lies here stays."""

    def clear(self) -> None:
        """The store was emptied: what waits elsewhere goes as well. For threads."""

    def status(self) -> Mapping[str, Any]:
        """For people: what it is, and what is wrong with it, if anything. Never fails."""


class Events(Protocol):
    """What services see of it."""

    def recording(self, consumer: str, lane: str, key: str, fact: Fact) -> Change: ...

    def wake(self, consumer: str, lane: str) -> None:
        """Entries of this lane were committed. From any thread; costs next to nothing."""

    def waiting(self, consumer: str, lane: str, limit: int) -> list[Entry]:
        """The oldest entries that were not taken yet, for figures."""


Find = Callable[[str], Sequence[Consumer]]
"""service name -> its consumers"""
