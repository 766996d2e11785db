"""What CloudWatch is told of rules, every minute: namespace AWS/Events; and how much came in.

Source: EventBridge User Guide, "Monitoring Amazon EventBridge". Differs: what a killed server had counted in its last minute is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.metering.figures import Figures, by
from pilvi.services.events.buses import DEFAULT, Rule

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

FIGURES: Final = Figures("events", "AWS/Events")


def count(cloud: Cloud, rule: Rule, metric: str, many: float = 1) -> None:
    place = rule.place
    dimensions = by(RuleName=rule.name) if place.name == DEFAULT else by(EventBusName=place.name, RuleName=rule.name)
    FIGURES.add(cloud, place.account, place.region, dimensions, metric, many)


def count_here(cloud: Cloud, account: str, region: str, metric: str, many: float = 1) -> None:
    """Of an account in a Region."""
    FIGURES.add(cloud, account, region, (), metric, many)
