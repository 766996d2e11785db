"""Who may: queue policies, IAM, services."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.core.errors import ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.testing.server import Account
from tests.services.sqs.test_message import bodies, new_queue

Refusal = Callable[..., tuple[str, str]]


def set_policy(aws: Account, url: str, *statements: dict[str, Any]) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    aws.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


def test_add_permission_lets_another_account_in(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    sqs, there, url = aws.client("sqs"), other_aws.client("sqs"), new_queue(aws)
    assert refusal(there.send_message, QueueUrl=url, MessageBody="x")[0].startswith("AccessDenied")
    sqs.add_permission(QueueUrl=url, Label="send", AWSAccountIds=[other_aws.account], Actions=["SendMessage"])
    there.send_message(QueueUrl=url, MessageBody="x")
    there.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "y"}])
    assert refusal(there.receive_message, QueueUrl=url)[0].startswith("AccessDenied")
    assert sorted(bodies(aws, url)) == ["x", "y"]
    policy = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
    assert policy["Statement"][0]["Action"] == "SQS:SendMessage"
    sqs.remove_permission(QueueUrl=url, Label="send")
    assert refusal(there.send_message, QueueUrl=url, MessageBody="x")[0].startswith("AccessDenied")
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])


def test_add_permission_refuses(aws: Account, refusal: Refusal) -> None:
    sqs, url = aws.client("sqs"), new_queue(aws)

    def code(**changed: Any) -> str:
        given: dict[str, Any] = {"Label": "l", "AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"]}
        return refusal(sqs.add_permission, QueueUrl=url, **(given | changed))[0]

    assert code(Label="bad label") == "InvalidParameterValue"
    assert code(AWSAccountIds=["1"]) == "InvalidParameterValue"
    assert code(Actions=["DeleteQueue"]) == "InvalidParameterValue"
    assert code(Actions=[]) == "MissingParameter"
    assert code(Actions=["SendMessage"] * 8) == "OverLimit"
    sqs.add_permission(QueueUrl=url, Label="l", AWSAccountIds=["111122223333"], Actions=["*"])
    assert code() == "InvalidParameterValue"
    assert refusal(sqs.remove_permission, QueueUrl=url, Label="none")[0] == "InvalidParameterValue"


def test_policies_of_other_accounts_cannot_give_the_owners_actions(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    url = new_queue(aws)
    set_policy(aws, url, {"Effect": "Allow", "Principal": "*", "Action": "sqs:*", "Resource": "*"})
    there = other_aws.client("sqs")
    there.send_message(QueueUrl=url, MessageBody="x")
    assert refusal(there.delete_queue, QueueUrl=url)[0].startswith("AccessDenied")
    assert refusal(there.set_queue_attributes, QueueUrl=url, Attributes={"DelaySeconds": "1"})[0].startswith("AccessDenied")


def test_iam_policies_count_on_queues_and_their_tags(aws: Account, refusal: Refusal) -> None:
    url, other = new_queue(aws), new_queue(aws, "other")
    aws.client("sqs").tag_queue(QueueUrl=other, Tags={"team": "red"})
    mine = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": f"arn:aws:sqs:*:{aws.account}:one"}
    red = {
        "Effect": "Allow",
        "Action": "sqs:ReceiveMessage",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/team": "red"}},
    }
    user = aws.user("sender", {"Version": "2012-10-17", "Statement": [mine, red]}).client("sqs")
    user.send_message(QueueUrl=url, MessageBody="x")
    user.receive_message(QueueUrl=other)
    assert refusal(user.send_message, QueueUrl=other, MessageBody="x")[0].startswith("AccessDenied")
    assert refusal(user.receive_message, QueueUrl=url)[0].startswith("AccessDenied")
    set_policy(aws, url, {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"})
    assert refusal(user.send_message, QueueUrl=url, MessageBody="x")[0].startswith("AccessDenied")


SENDERS = {
    "s3": ("arn:aws:s3:::a-bucket", "arn:aws:s3:::another"),
    "sns": ("arn:aws:sns:us-east-1:{account}:told", "arn:aws:sns:us-east-1:{account}:other"),
    "events": ("arn:aws:events:us-east-1:{account}:rule/told", "arn:aws:events:us-east-1:{account}:rule/other"),
}


@pytest.mark.parametrize("service", SENDERS)
@pytest.mark.parametrize("is_sealed", [False, True], ids=["plain", "kms"])
def test_a_service_may_send_only_after_the_policy(server: Any, aws: Account, service: str, is_sealed: bool) -> None:
    """Of the queue, and of its key."""
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"] if is_sealed else ""
    url = new_queue(aws, **({"KmsMasterKeyId": key} if key else {}))
    source, another = (arn.format(account=aws.account) for arn in SENDERS[service])
    principal = f"{service}.amazonaws.com"

    def send(source_arn: str) -> None:
        sender = Principal("service", aws.account, "", principal, principal, source_arn=source_arn)
        ctx = Context(server.cloud, principal=sender, account=aws.account, region=aws.region, service=service)
        ctx.call("sqs", "SendMessage", QueueUrl=url, MessageBody=f"from {service}")

    def refused(source_arn: str) -> str:
        with pytest.raises(ServiceError) as error:
            send(source_arn)
        return error.value.code

    assert "AccessDenied" in refused(source)
    set_policy(
        aws,
        url,
        {
            "Effect": "Allow",
            "Principal": {"Service": principal},
            "Action": "sqs:SendMessage",
            "Resource": f"arn:aws:sqs:us-east-1:{aws.account}:one",
            "Condition": {"ArnLike": {"aws:SourceArn": source}, "StringEquals": {"aws:SourceAccount": aws.account}},
        },
    )
    if is_sealed:
        assert refused(source) == "KmsAccessDenied"
        allow = [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{aws.account}:root"}, "Action": "kms:*", "Resource": "*"},
            {
                "Effect": "Allow",
                "Principal": {"Service": principal},
                "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                "Resource": "*",
            },
        ]
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps({"Version": "2012-10-17", "Statement": allow}))
    send(source)
    assert "AccessDenied" in refused(another)
    assert bodies(aws, url) == [f"from {service}"]
