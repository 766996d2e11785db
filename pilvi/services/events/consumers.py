"""Who takes the facts of EventBridge (pilvi.events): one consumer a purpose."""

from pilvi.events import Consumer, Patience
from pilvi.events.told import CONSUMER as TOLD
from pilvi.services.events.accept import CONSUMER as DELIVERY
from pilvi.services.events.accept import take_told
from pilvi.services.events.authorizing import CONSUMER as AUTHORIZING
from pilvi.services.events.authorizing import authorize
from pilvi.services.events.deliver import deliver, failed
from pilvi.services.events.replaying import CONSUMER as REPLAY
from pilvi.services.events.replaying import replay

WEEK_S = 7 * 86_400.0

CONSUMERS = (
    Consumer(TOLD, take_told),
    Consumer(
        DELIVERY, deliver, failed=failed, patience=Patience(first_s=1.0, most_s=900.0, attempts=186, age_s=86_400.0), timeout_s=60.0
    ),
    Consumer(AUTHORIZING, authorize, timeout_s=60.0),
    Consumer(REPLAY, replay, timeout_s=WEEK_S),
)
