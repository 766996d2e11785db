"""Receives that may be asked for again (FIFO): the same ReceiveRequestAttemptId gives the same messages, for five minutes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pilvi.services.sqs.entry import Entry
    from pilvi.services.sqs.live import Live

KEPT_MS: Final = 300_000
MOST: Final = 10_000


class Attempts:
    """Of one queue; in memory only, as a restart loses no message by it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, list[tuple[Entry, int, int]]]] = OrderedDict()

    def keep(self, attempt: str, taken: Sequence[Entry], now: int) -> None:
        self._kept[attempt] = (now, [(entry, entry.last, entry.invisible_until) for entry in taken])
        self._kept.move_to_end(attempt)
        while self._kept and (len(self._kept) > MOST or next(iter(self._kept.values()))[0] < now - KEPT_MS):
            self._kept.popitem(last=False)

    def again(self, live: Live, attempt: str, now: int, hidden_ms: int) -> list[Entry] | None:
        """The messages of an attempt, hidden anew; None when they were touched since, or time is over."""
        kept = self._kept.get(attempt)
        if kept is None or kept[0] < now - KEPT_MS:
            return None
        live.tick(now)
        for entry, received, until in kept[1]:
            if live.flying.get(entry.seq) is not entry or entry.last != received or entry.invisible_until != until:
                return None
        for entry, _, _ in kept[1]:
            live.hide(entry, now + hidden_ms, now)
        return [entry for entry, _, _ in kept[1]]
