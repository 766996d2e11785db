"""What EventBridge hears of keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pilvi.testing.server import Account, eventually


def hearing(aws: Account) -> Callable[[str], dict[str, Any]]:
    """Gives the first event of a type that a queue behind a rule gets."""
    sqs, events = aws.client("sqs"), aws.client("events")
    url = sqs.create_queue(QueueName="heard")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{aws.account}:heard"
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})})
    events.put_rule(Name="keys", EventPattern='{"source": ["aws.kms"]}')
    events.put_targets(Rule="keys", Targets=[{"Id": "q", "Arn": arn}])

    def hear(detail_type: str) -> dict[str, Any]:
        def look() -> Any:
            bodies = [json.loads(one["Body"]) for one in sqs.receive_message(QueueUrl=url).get("Messages", ())]
            return next((body for body in bodies if body["detail-type"] == detail_type), None)

        found: dict[str, Any] = eventually(look)
        return found

    return hear


def test_a_rotation_is_told(later_aws: Account, days_pass: Callable[[float], None]) -> None:
    kms = later_aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    kms.enable_key_rotation(KeyId=key["KeyId"], RotationPeriodInDays=90)
    hear = hearing(later_aws)
    days_pass(91)
    event = hear("KMS CMK Rotation")
    assert (event["resources"], event["detail"]) == ([key["Arn"]], {"key-id": key["KeyId"]})


def test_the_end_of_a_key_is_told(later_aws: Account, days_pass: Callable[[float], None]) -> None:
    kms = later_aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    hear = hearing(later_aws)
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    days_pass(8)
    assert hear("KMS CMK Deletion")["detail"] == {"key-id": key["KeyId"]}
