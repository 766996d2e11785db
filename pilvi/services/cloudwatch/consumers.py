"""What comes of an alarm's change of state (pilvi.events)."""

from pilvi.events import Consumer, Patience
from pilvi.services.cloudwatch.alarm_actions import act
from pilvi.services.cloudwatch.alarms import ACTIONS, FOLLOWERS
from pilvi.services.cloudwatch.composite_alarm import follow

CONSUMERS = (
    Consumer(ACTIONS, act, patience=Patience(first_s=1.0, most_s=60.0, attempts=50, age_s=3600.0)),
    Consumer(FOLLOWERS, follow),
)
