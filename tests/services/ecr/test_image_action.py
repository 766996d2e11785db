"""What EventBridge hears of images."""

from __future__ import annotations

import json
from typing import Any

from pilvi.testing.server import Account, eventually
from tests.services.ecr.conftest import image_of, push


def test_put_image_and_batch_delete_image_tell_event_bridge(aws: Account, ecr: Any) -> None:
    sqs, events = aws.client("sqs"), aws.client("events")
    url = sqs.create_queue(QueueName="heard")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{aws.account}:heard"
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})})
    events.put_rule(Name="images", EventPattern='{"source": ["aws.ecr"], "detail-type": ["ECR Image Action"]}')
    events.put_targets(Rule="images", Targets=[{"Id": "q", "Arn": arn}])
    image = push(ecr, "app", image_of("told"), "v1")
    ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageTag": "v1"}])
    found: list[Any] = []

    def look() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", ()):
            found.append(json.loads(message["Body"])["detail"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(found) >= 2

    eventually(look)
    common = {"result": "SUCCESS", "repository-name": "app", "image-digest": image["imageId"]["imageDigest"], "image-tag": "v1"}
    assert sorted(found, key=lambda one: str(one["action-type"])) == [
        common | {"action-type": "DELETE"},
        common | {"action-type": "PUSH"},
    ]
