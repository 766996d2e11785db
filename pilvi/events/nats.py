"""The log on NATS JetStream: facts wait in a stream of a NATS server; the records store is the outbox.

    recording -> outbox (embedded.py), in the transaction that makes the fact true
    read      -> what lies in the outbox is published, and leaves it once NATS has kept it; then the stream is read
    done      -> the message is deleted

    STREAM.CONSUMER.LANE             subjects; lanes are quoted as in URLs
    Table State:CONSUMER, Kept:CONSUMER, Dead:CONSUMER      of the records store

Only the records store can join a transaction, so a fact begins there. NATS holds what waits; what is rare lies beside the outbox:
how often an entry failed and when it is due, facts too long for a message, dead letters. Messages are sealed by the server's keyring.
A server that is killed between publishing and leaving the outbox publishes again under the same id, and the stream keeps one.
While NATS is away, facts wait in the outbox, and `status` says so.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote

import msgspec

from pilvi.core.clock import Clock
from pilvi.core.errors import AlreadyExists, Invalid, NotFound, Unavailable
from pilvi.core.ids import Ids
from pilvi.events import Entry, Fact
from pilvi.events.embedded import QUEUE, SERVICE, EmbeddedLog, queue_of
from pilvi.events.nats_stream import Kept, Message, Place, Stream
from pilvi.storage.records import Change, Delete, Insert, Put, Records, Table

log = logging.getLogger("pilvi.events")

STREAMS: Final = Table("", "", SERVICE, "Stream")
NAME: Final = "nats"
CARRIED: Final = 500
"""Entries published together."""
HEAD_BYTES: Final = 4096
"""Room for what is not the fact in a message."""
COUNTED: Final = 1000
SEQ_DIGITS: Final = 16

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Seal(Protocol):
    """pilvi.storage.keyring.Keyring"""

    def seal(self, data: bytes | memoryview, context: bytes = b"") -> bytes: ...

    def unseal(self, sealed: bytes | memoryview, context: bytes = b"") -> bytes: ...


class NatsLog:
    """An adapter of `pilvi.events.Log`."""

    is_remote = True

    def __init__(self, place: Place, store: Records, clock: Clock, ids: Ids, seal: Seal) -> None:
        self._store = store
        self._ids = ids
        self._seal = seal
        self.outbox = EmbeddedLog(store, clock, ids)
        self.stream = Stream(place, self._name, clock)
        self._carrying = threading.Lock()
        self._strange: set[int] = set()
        """Messages that cannot be opened, and have been told of."""

    # -- the outbox ---------------------------------------------------------------------------------------------------

    def recording(self, consumer: str, lane: str, key: str, fact: Fact) -> Change:
        return self.outbox.recording(consumer, lane, key, fact)

    def _carry(self, consumer: str, lane: str) -> None:
        """Bring what lies in the outbox to NATS, oldest first."""
        with self._carrying:
            while entries := self.outbox.read(consumer, lane, CARRIED):
                messages, leaving = [], []
                for entry in entries:
                    message, is_whole = self._message(consumer, entry)
                    messages.append(message)
                    leaving.append(self._leaving(consumer, entry, message, is_whole=is_whole))
                self.stream.call(partial(self.stream.publish, messages=messages))
                self._write(leaving)

    def _message(self, consumer: str, entry: Entry) -> tuple[Message, bool]:
        """What is published, and whether the fact is in it."""
        origin = entry.id.rpartition("\0")[2]
        data = self._packed({"k": entry.key, "a": entry.at, "f": dict(entry.fact)}, origin)
        if is_long := len(data) + HEAD_BYTES > self.stream.most_bytes:
            data = self._packed({"k": entry.key, "a": entry.at}, origin)
        return Message(f"{self._stream_name()}.{consumer}.{token_of(entry.lane)}", origin, data), not is_long

    def _leaving(self, consumer: str, entry: Entry, message: Message, *, is_whole: bool) -> list[Change]:
        """How an entry leaves the outbox: a fact that is not in its message stays beside it."""
        leaving: list[Change] = [Delete(queue_of(consumer), entry.id)]
        if not is_whole:
            leaving.append(Put(kept_of(consumer), message.id, {"fact": dict(entry.fact)}))
        return leaving

    def _packed(self, value: Mapping[str, Any], origin: str) -> bytes:
        return self._seal.seal(_encode(value), b"events:" + origin.encode())

    def _write(self, leaving: Sequence[Sequence[Change]]) -> None:
        """All, or where another server has carried some of them, each by itself."""
        try:
            self._store.write(*(change for changes in leaving for change in changes))
        except NotFound:
            for changes in leaving:
                with suppress(NotFound):
                    self._store.write(*changes)

    # -- reading ------------------------------------------------------------------------------------------------------

    def consumers(self) -> list[str]:
        published = self.stream.call(lambda client: self.stream.subjects(client, ">"))
        return sorted({subject.rpartition(".")[0] for subject in published} | set(self.outbox.consumers()))

    def lanes(self, consumer: str) -> list[str]:
        published = self.stream.call(lambda client: self.stream.subjects(client, f"{consumer}.*"))
        return sorted({lane_of(subject.rpartition(".")[2]) for subject in published} | set(self.outbox.lanes(consumer)))

    def read(self, consumer: str, lane: str, limit: int, after: str = "") -> list[Entry]:
        self._carry(consumer, lane)
        entries: list[Entry] = []
        beyond = seq_of(after) if after else 0
        while len(entries) < limit:
            page = self._page(consumer, lane, beyond, limit - len(entries))
            if not page:
                break
            beyond = page[-1].seq
            entries += self._entries(consumer, lane, page)
        return entries

    def _page(self, consumer: str, lane: str, beyond: int, limit: int) -> list[Kept]:
        subject = f"{self._stream_name()}.{consumer}.{token_of(lane)}"
        return self.stream.call(partial(self.stream.read, subject=subject, after=beyond, limit=limit))

    def _entries(self, consumer: str, lane: str, page: Sequence[Kept]) -> list[Entry]:
        """Those of a page that are entries, with what became of them since."""
        first, last = (f"{lane}\0{one.seq:0{SEQ_DIGITS}x}" for one in (page[0], page[-1]))
        states = self._store.scan(states_of(consumer), after=first, before=f"{last}~", limit=len(page))
        became = {row.id: row.value for row in states}
        found = (self._entry(consumer, lane, one, became) for one in page)
        return [entry for entry in found if entry is not None]

    def _entry(self, consumer: str, lane: str, kept: Kept, became: Mapping[str, Mapping[str, Any]]) -> Entry | None:
        """None for one that was taken by a server that was killed before it could say so, and for what is none of ours."""
        try:
            value = _decode(self._seal.unseal(kept.data, b"events:" + kept.id.encode()))
        except (Invalid, msgspec.DecodeError) as error:
            if kept.seq not in self._strange:
                self._strange.add(kept.seq)
                log.error("events: message %d of %s is not to be opened and stays there: %s", kept.seq, self.stream.name, error)
            return None
        fact = value.get("f")
        if fact is None:
            fact = self._kept(consumer, lane, kept.id)
            if fact is None:
                self.stream.begin(partial(self.stream.delete, seq=kept.seq))
                return None
        id = f"{lane}\0{kept.seq:0{SEQ_DIGITS}x}{kept.id}"
        state = became.get(id, {"tries": 0, "due": 0.0, "error": ""})
        return Entry(id, lane, value["k"], fact, value["a"], state["tries"], state["due"], state["error"])

    def _kept(self, consumer: str, lane: str, origin: str) -> Fact | None:
        """A fact too long for a message: beside the outbox, or still in it, as another server may just be moving it."""
        places = ((kept_of(consumer), origin), (queue_of(consumer), f"{lane}\0{origin}"), (kept_of(consumer), origin))
        for table, id in places:
            if (row := self._store.get(table, id)) is not None:
                fact: Fact = row.value["fact"]
                return fact
        return None

    # -- what became of an entry --------------------------------------------------------------------------------------

    async def done(self, consumer: str, entry: Entry) -> None:
        await self._forget_beside(consumer, entry)
        await self._delete(entry)

    async def postpone(self, consumer: str, entry: Entry, due: float, error: str) -> None:
        is_there = self.stream.begin(lambda client: self.stream.has(client, seq_of(entry.id)))
        if await asyncio.wrap_future(is_there):
            await self._store.commit([Put(states_of(consumer), entry.id, {"tries": entry.tries + 1, "due": due, "error": error})])

    async def bury(self, consumer: str, entry: Entry, error: str) -> None:
        as_written = entry._replace(id=f"{entry.lane}\0{origin_of(entry.id)}")
        await self._store.commit([self.outbox.burial(consumer, as_written, error)])
        await self.done(consumer, entry)

    async def _forget_beside(self, consumer: str, entry: Entry) -> None:
        """What the records store knows of an entry goes first: a message without it is delivered again, as if it were new."""
        beside = [(states_of(consumer), entry.id), (kept_of(consumer), origin_of(entry.id))]
        for table, id in beside:
            if self._store.get(table, id) is not None:
                try:
                    await self._store.commit([Delete(table, id)])
                except NotFound:
                    continue

    async def _delete(self, entry: Entry) -> None:
        await asyncio.wrap_future(self.stream.begin(lambda client: self.stream.delete(client, seq_of(entry.id))))

    # -- dead letters -------------------------------------------------------------------------------------------------

    def dead_consumers(self) -> list[str]:
        return self.outbox.dead_consumers()

    def dead(self, consumer: str, *, after: str = "", limit: int = 100) -> list[Entry]:
        return self.outbox.dead(consumer, after=after, limit=limit)

    async def revive(self, consumer: str, entry: Entry) -> None:
        await self.outbox.revive(consumer, entry)

    async def forget(self, consumer: str, entry: Entry) -> None:
        await self.outbox.forget(consumer, entry)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look whether NATS is there; nobody waits for it."""
        self.stream.begin(_nothing)

    def close(self) -> None:
        self.stream.close()

    def clear(self) -> None:
        """The stream goes; where NATS is away it stays there, and this server takes another one."""
        try:
            self.stream.call(self.stream.remove)
        except Unavailable as error:
            log.warning("events: the stream %s was left behind: %s", self.stream.name, error.message)
        self.stream.forget()

    def status(self) -> Mapping[str, Any]:
        told: dict[str, Any] = {"log": "nats", "server": self.stream.place.shown, "outbox": self._outbox_count()}
        if self.stream.away:
            told |= {"away": self.stream.away, "away_since": self.stream.away_since}
        return told

    def _outbox_count(self) -> int:
        tables = [table for table in self._store.tables(service=SERVICE) if table.noun.startswith(QUEUE)]
        return sum(len(self._store.scan(table, limit=COUNTED)) for table in tables)

    def _name(self) -> str:
        """The stream's name, the same for all servers on one store."""
        while (row := self._store.get(STREAMS, NAME)) is None:
            try:
                self._store.write(Insert(STREAMS, NAME, {"name": f"PILVI_{self._ids.hex(12)}"}))
            except AlreadyExists:
                continue
        name: str = row.value["name"]
        return name

    def _stream_name(self) -> str:
        return self.stream.name or self._name()


async def _nothing(_client: object) -> None:
    return


def states_of(consumer: str) -> Table:
    return Table("", "", SERVICE, f"State:{consumer}")


def kept_of(consumer: str) -> Table:
    return Table("", "", SERVICE, f"Kept:{consumer}")


def seq_of(id: str) -> int:
    return int(id.rpartition("\0")[2][:SEQ_DIGITS], 16)


def origin_of(id: str) -> str:
    return id.rpartition("\0")[2][SEQ_DIGITS:]


def token_of(lane: str) -> str:
    """A lane as one word of a subject."""
    return quote(lane, safe="/:@=,+").replace(".", "%2E") or "%"


def lane_of(token: str) -> str:
    return "" if token == "%" else unquote(token)
