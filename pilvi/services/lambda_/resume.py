"""What goes on after a restart: events that wait for their function; working copies that a crash left are removed."""

from __future__ import annotations

from pilvi.core.service import Cloud
from pilvi.services.lambda_.engine import engine_of


async def resume(cloud: Cloud) -> None:
    """Take up the events that an earlier server had accepted."""
    engine_of(cloud)
