"""Who works on what S3 Control has begun (pilvi.events)."""

from pilvi.events import Consumer, Patience
from pilvi.services.s3control.job import CONSUMER
from pilvi.services.s3control.job_run import work

CONSUMERS = (
    Consumer(
        CONSUMER,
        work,
        patience=Patience(first_s=1.0, most_s=60.0, attempts=10_000, age_s=365 * 86_400.0),
        parallel=1000,
        timeout_s=30 * 86_400.0,
    ),
)
