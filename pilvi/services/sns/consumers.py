"""Who takes what topics send (pilvi.events): a consumer for each kind of endpoint, a lane for each subscription."""

from pilvi.events import Consumer, Patience
from pilvi.services.sns.deliver import deliver
from pilvi.services.sns.retry import failed

_ONCE = Patience(attempts=1)
"""What retry.py cannot deal with becomes a dead letter of the events room."""

CONSUMERS = (
    Consumer("sns/sqs", deliver, patience=_ONCE, parallel=32, timeout_s=60.0, failed=failed),
    Consumer("sns/lambda", deliver, patience=_ONCE, parallel=32, timeout_s=60.0, failed=failed),
    Consumer("sns/http", deliver, patience=_ONCE, parallel=16, timeout_s=120.0, failed=failed),
    Consumer("sns/spool", deliver, patience=_ONCE, parallel=8, timeout_s=60.0, failed=failed),
)
