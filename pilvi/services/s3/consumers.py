"""Who takes the facts of buckets (pilvi.events): one consumer a purpose."""

from pilvi.events import Consumer, Patience
from pilvi.services.s3.notify import notify
from pilvi.services.s3.replicate import give_up, replicate

CONSUMERS = (
    Consumer("s3/replication", replicate, give_up, Patience(first_s=2.0, most_s=900.0, attempts=120, age_s=86_400.0)),
    Consumer("s3/notifications", notify, patience=Patience(first_s=1.0, most_s=300.0, attempts=120, age_s=86_400.0)),
)
