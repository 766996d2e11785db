"""Which call hands a message to which kind of target, and which errors last."""

from __future__ import annotations

import asyncio
import json

import pytest

from pilvi.core.errors import Denied, ServiceError, Unavailable
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.events.targets import call_for, is_lasting, send
from pilvi.testing.server import Account, TestServer, eventually


def context(server: TestServer, account: str) -> Context:
    return Context(
        server.cloud,
        principal=Principal("service", account, "", "events.amazonaws.com", "events.amazonaws.com", source_arn="arn:aws:x"),
        account=account,
        region="us-east-1",
        service="events",
    )


@pytest.mark.parametrize(
    ("arn", "service", "operation"),
    [
        ("arn:aws:sqs:us-east-1:123456789012:jobs", "sqs", "SendMessage"),
        ("arn:aws:lambda:us-east-1:123456789012:function:f:live", "lambda", "Invoke"),
        ("arn:aws:sns:us-east-1:123456789012:topic", "sns", "Publish"),
        ("arn:aws:events:us-east-1:123456789012:event-bus/own", "events", "PutEvents"),
        ("arn:aws:logs:us-east-1:123456789012:log-group:/aws/events/x:*", "logs", "PutLogEvents"),
        ("arn:aws:sagemaker:us-east-1:123456789012:pipeline/p", "sagemaker", "StartPipelineExecution"),
        ("arn:aws:states:us-east-1:123456789012:stateMachine:m", "stepfunctions", "StartExecution"),
        ("arn:aws:kinesis:us-east-1:123456789012:stream/s", "kinesis", "PutRecord"),
        ("arn:aws:firehose:us-east-1:123456789012:deliverystream/s", "firehose", "PutRecord"),
    ],
)
def test_call_for_each_kind(server: TestServer, arn: str, service: str, operation: str) -> None:
    call = call_for(context(server, "123456789012"), arn, "{}", {"MessageGroupId": "g", "Source": "own", "DetailType": "t"})
    assert (call.service, call.operation) == (service, operation)


def test_call_for_an_unknown_kind_is_refused(server: TestServer) -> None:
    with pytest.raises(ServiceError, match="ecs/cluster are not built") as raised:
        call_for(context(server, "123456789012"), "arn:aws:ecs:us-east-1:123456789012:cluster/c", "{}", {})
    assert is_lasting(raised.value)


def test_send_puts_a_message_where_the_policy_lets_it(server: TestServer, aws: Account) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{aws.account}:jobs"
    ctx = context(server, aws.account)
    loop = server.cloud.dispatcher.loop
    assert loop is not None
    with pytest.raises(ServiceError) as raised:
        asyncio.run_coroutine_threadsafe(send(ctx, arn, "hello"), loop).result()
    assert is_lasting(raised.value)
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:*", "Resource": "*"}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})})
    asyncio.run_coroutine_threadsafe(send(ctx, arn, "hello"), loop).result()
    assert eventually(lambda: sqs.receive_message(QueueUrl=url).get("Messages"))[0]["Body"] == "hello"


def test_is_lasting_tells_what_passes_by_itself() -> None:
    assert is_lasting(Denied("no"))
    assert is_lasting(ServiceError("QueueDoesNotExist"))
    assert is_lasting(ServiceError("ResourceNotFoundException"))
    assert is_lasting(ServiceError("KmsAccessDenied"))
    assert not is_lasting(ServiceError("TooManyRequestsException"))
    assert not is_lasting(ServiceError("InternalFailure"))
    assert not is_lasting(ServiceError("KmsThrottled"))
    assert not is_lasting(Unavailable("later"))
    assert not is_lasting(OSError())
