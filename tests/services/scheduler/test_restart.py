"""Schedules of a server that was killed: what it missed happens late, and once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pilvi.testing.server import eventually
from pilvi.testing.up import Up


def test_what_a_killed_server_missed_fires_late_and_once(tmp_path: Path, queue_in: Any, role_in: Any, asked: Any) -> None:
    up = Up(tmp_path)
    queue, role = queue_in(up.root, "missed"), role_in(up.root)
    due = datetime.now(UTC) + timedelta(seconds=2)
    expression = f"at({due:%Y-%m-%dT%H:%M:%S})"
    up.root.client("scheduler").create_schedule(
        **asked(
            queue, role, expression, Name="once", ActionAfterCompletion="DELETE", target={"Input": "<aws.scheduler.scheduled-time>"}
        )
    )
    up.kill()
    eventually(lambda: datetime.now(UTC) > due)
    again = Up(tmp_path)
    try:
        scheduler = again.root.client("scheduler")
        moved = queue._replace(account=again.root, url=queue.url.replace(up.endpoint, again.endpoint))
        assert moved.texts() == [f"{due:%Y-%m-%dT%H:%M:%SZ}"]
        eventually(lambda: not scheduler.list_schedules()["Schedules"])
        assert moved.is_empty()
    finally:
        again.stop()
