"""What CloudWatch is told of schedules, every minute: namespace AWS/Scheduler, with and without the dimension ScheduleGroup.

Source: EventBridge Scheduler User Guide, "Monitoring Amazon EventBridge Scheduler with Amazon CloudWatch". Differs: what a killed
server had counted in its last minute is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.metering.figures import Figures, by

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

FIGURES: Final = Figures("scheduler", "AWS/Scheduler")


def count(cloud: Cloud, account: str, region: str, group: str, name: str) -> None:
    """One of them."""
    FIGURES.add(cloud, account, region, (), name)
    FIGURES.add(cloud, account, region, by(ScheduleGroup=group), name)
