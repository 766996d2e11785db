"""What goes on after a restart: pipes poll again, and what was being created, started, stopped or deleted comes to its end."""

from __future__ import annotations

from pilvi.core.service import Cloud
from pilvi.services.pipes.engine import engine_of


async def resume(cloud: Cloud) -> None:
    """Take up what an earlier server had begun."""
    engine_of(cloud).resume()
