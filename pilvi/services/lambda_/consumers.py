"""Who takes the results of asynchronous invocations (pilvi.events)."""

from pilvi.events import Consumer, Patience
from pilvi.services.lambda_.destinations import CONSUMER, deliver

CONSUMERS = (Consumer(CONSUMER, deliver, patience=Patience(first_s=1.0, most_s=300.0, attempts=30, age_s=21600.0)),)
