"""What services tell the default bus: the envelope, and that it stands or falls with their transaction."""

from __future__ import annotations

from datetime import UTC, datetime

from pilvi.core.clock import SystemClock
from pilvi.core.ids import Ids
from pilvi.events.embedded import EmbeddedLog
from pilvi.events.told import CONSUMER, lane_of, plain, told
from pilvi.storage.records.memory import MemoryRecords


class Small:
    """As much of a cloud as telling needs."""

    def __init__(self) -> None:
        self.store = MemoryRecords()
        self.clock = SystemClock()
        self.ids = Ids()
        self.events = EmbeddedLog(self.store, self.clock, self.ids)


def test_told_writes_an_event_into_the_lane_of_the_bus() -> None:
    cloud = Small()
    at = datetime(2026, 3, 1, 12, 0, 1, 999_000, UTC)
    detail = {"Name": "j", "CreationTime": at, "_pid": 7, "Steps": [{"StartTime": at}]}
    change = told(cloud, "123456789012", "us-east-1", "aws.sagemaker", "Changed", ["arn:aws:x"], detail, at)  # type: ignore[arg-type]
    assert cloud.events.read(CONSUMER, lane_of("123456789012", "us-east-1"), 10) == []
    cloud.store.write(change)
    (entry,) = cloud.events.read(CONSUMER, lane_of("123456789012", "us-east-1"), 10)
    event = dict(entry.fact)
    assert entry.key == "arn:aws:x"
    assert len(event.pop("id")) == 36
    assert event == {
        "version": "0",
        "detail-type": "Changed",
        "source": "aws.sagemaker",
        "account": "123456789012",
        "time": "2026-03-01T12:00:01Z",
        "region": "us-east-1",
        "resources": ["arn:aws:x"],
        "detail": {"Name": "j", "CreationTime": 1772366401999, "Steps": [{"StartTime": 1772366401999}]},
    }


def test_plain_leaves_what_is_json() -> None:
    assert plain({"a": [1, "x", None, True, 1.5]}) == {"a": [1, "x", None, True, 1.5]}
