"""What people are told of the events room, and may do about it: what waits, what was given up, revived or deleted.

A dead letter stays for a while (`--dead-letter-days`), so that whoever finds out why it could not be delivered may still have it delivered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from pilvi.core.clock import Clock
from pilvi.core.errors import NotFound
from pilvi.events import Entry, Log
from pilvi.events.delivery import Delivery

PAGE: Final = 500
MOST_COUNTED: Final = 1000
MOST_LANES: Final = 200
"""Told of one consumer."""
DAY_S: Final = 86_400.0


class Letters:
    """Of one server. Methods that read are for threads; those that write are coroutines of its loop."""

    def __init__(self, delivery: Delivery, clock: Clock) -> None:
        self._delivery = delivery
        self._clock = clock

    @property
    def _log(self) -> Log:
        return self._delivery.log

    # -- what waits -------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The log, and how many dead letters there are."""
        return {**self._log.status(), "dead": sum(self.counts().values())}

    def counts(self) -> dict[str, int]:
        """Dead letters by consumer; MOST_COUNTED stands for as many or more."""
        return {consumer: sum(1 for _ in islice(self._of(consumer), MOST_COUNTED)) for consumer in self._log.dead_consumers()}

    def waiting(self) -> list[dict[str, Any]]:
        """Lanes that hold entries, with the first PAGE of them counted. Unavailable while the log cannot be reached."""
        return [
            told
            for consumer in sorted(self._log.consumers())
            for lane in self._log.lanes(consumer)[:MOST_LANES]
            if (told := self._lane(consumer, lane)) is not None
        ]

    def _lane(self, consumer: str, lane: str) -> dict[str, Any] | None:
        entries = self._log.read(consumer, lane, PAGE)
        if not entries:
            return None
        failed = [entry for entry in entries if entry.tries]
        return {
            "consumer": consumer,
            "lane": lane,
            "waiting": len(entries),
            "is_all": len(entries) < PAGE,
            "oldest_s": max(0.0, self._clock.time_s() - entries[0].at),
            "failed": len(failed),
            "error": failed[0].error if failed else "",
        }

    # -- what was given up ------------------------------------------------------------------------------------------

    def dead(self, consumer: str = "", lane: str = "") -> Iterator[tuple[str, Entry]]:
        """Dead letters with their consumers, of all or of one."""
        for name in sorted(self._log.dead_consumers()):
            if consumer in ("", name):
                for entry in self._of(name):
                    if lane in ("", entry.lane):
                        yield name, entry

    def _of(self, consumer: str) -> Iterator[Entry]:
        after = ""
        while entries := self._log.dead(consumer, after=after, limit=PAGE):
            yield from entries
            after = entries[-1].id

    def chosen(
        self, ids: Sequence[str], consumer: str = "", lane: str = "", *, everything: bool = False
    ) -> list[tuple[str, Entry]]:
        """Those of these ids, or all of a consumer and lane. NotFound for an id that is none."""
        wanted = set(ids)
        found = [(name, entry) for name, entry in self.dead(consumer, lane) if everything or id_of(entry) in wanted]
        if missing := wanted - {id_of(entry) for _, entry in found}:
            raise NotFound(f"There is no dead letter {', '.join(sorted(missing))}.")
        return found

    async def revive(self, letters: Sequence[tuple[str, Entry]]) -> None:
        """Have them delivered after all."""
        for consumer, entry in letters:
            await self._log.revive(consumer, entry)
            self._delivery.wake(consumer, entry.lane)

    async def delete(self, letters: Sequence[tuple[str, Entry]]) -> None:
        for consumer, entry in letters:
            await self._log.forget(consumer, entry)

    def expired(self, keep_s: float) -> list[tuple[str, Entry]]:
        """Those that were given up longer ago."""
        before = self._clock.time_s() - keep_s
        return [(name, entry) for name, entry in self.dead() if (entry.buried or entry.at) < before]


def id_of(entry: Entry) -> str:
    """What people call a dead letter by: what follows its lane."""
    return entry.id.rpartition("\0")[2]


def told(consumer: str, entry: Entry, *, whole: bool) -> Mapping[str, Any]:
    """A dead letter, for JSON; whole: with its fact."""
    found: dict[str, Any] = {
        "id": id_of(entry),
        "consumer": consumer,
        "lane": entry.lane,
        "key": entry.key,
        "at": entry.at,
        "buried": entry.buried,
        "tries": entry.tries,
        "error": entry.error,
    }
    return {**found, "fact": dict(entry.fact)} if whole else found
