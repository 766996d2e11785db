"""Calls a second: whoever comes too early waits for the next free moment. Of this process, in the world's time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

MOST_KNOWN: Final = 10_000
_MEMORY: Final = "events:pacing"


async def turn(cloud: Cloud, who: str, per_second: int) -> None:
    """Wait until it is one's turn. A second's worth may come at once, after a pause."""
    nexts: dict[str, float] = cloud.memory.setdefault(_MEMORY, {})
    if len(nexts) > MOST_KNOWN:
        nexts.clear()
    now = asyncio.get_running_loop().time()
    mine = max(nexts.get(who, 0.0), now - 1.0 + 1.0 / per_second)
    nexts[who] = mine + 1.0 / per_second
    if mine > now:
        await asyncio.sleep(mine - now)
