"""Delivery: web servers that verify signatures, functions, retries, dead letters, subscribers that are slow or down."""

from __future__ import annotations

import base64
import io
import itertools
import json
import time
import urllib.request
import zipfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pilvi.metering.line import lines_between
from pilvi.services.sns.delivery_policy import MANAGED, UNMANAGED, Phases
from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sns.stage import Web, is_empty, new_queue, new_topic, received, subscribed, told
from tests.services.sns.test_subscription import visit


def verify(content: dict[str, Any]) -> None:
    """As a client of AWS would; InvalidSignature when it was altered."""
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if content["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{content[name]}\n" for name in names if name in content)
    with urllib.request.urlopen(content["SigningCertURL"], timeout=10) as answer:
        key = x509.load_pem_x509_certificate(answer.read()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    digest: hashes.HashAlgorithm = hashes.SHA1() if content["SignatureVersion"] == "1" else hashes.SHA256()
    key.verify(base64.b64decode(content["Signature"]), text.encode(), padding.PKCS1v15(), digest)


def listening(aws: Account, topic: str, web: Web, **attributes: str) -> str:
    """A confirmed subscription of a web server."""
    arn = subscribed(aws, topic, web.url, "http", **attributes)
    (asking,) = eventually(lambda: web.of_kind("SubscriptionConfirmation"))
    visit(asking["SubscribeURL"])
    return arn


def has_heard(web: Web, many: int) -> bool:
    return len(web.of_kind("Notification")) == many


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_web_server_confirms_and_verifies_what_it_hears(aws: Account, web: Web, version: str) -> None:
    sns, topic = aws.client("sns"), new_topic(aws, SignatureVersion=version)
    arn = listening(aws, topic, web)
    headers, asking = web.heard[0]
    assert (asking["Type"], asking["TopicArn"], asking["SignatureVersion"]) == ("SubscriptionConfirmation", topic, version)
    verify(asking)
    sns.publish(TopicArn=topic, Message="grün", Subject="Colours")
    (content,) = eventually(lambda: web.of_kind("Notification"))
    headers = web.heard[-1][0]
    assert headers["x-amz-sns-topic-arn"] == topic
    assert headers["x-amz-sns-subscription-arn"] == arn
    assert headers["x-amz-sns-message-id"] == content["MessageId"]
    assert headers["content-type"] == "text/plain; charset=UTF-8"
    assert headers["user-agent"] == "Amazon Simple Notification Service Agent"
    assert (content["Message"], content["Subject"]) == ("grün", "Colours")
    verify(content)
    with pytest.raises(InvalidSignature):
        verify({**content, "Message": "rot"})
    visit(content["UnsubscribeURL"])
    assert sns.list_subscriptions()["Subscriptions"] == []
    (farewell,) = eventually(lambda: web.of_kind("UnsubscribeConfirmation"))
    verify(farewell)


def test_raw_delivery_to_a_web_server(aws: Account, web: Web) -> None:
    topic = new_topic(aws)
    policy = json.dumps({"requestPolicy": {"headerContentType": "application/json"}})
    listening(aws, topic, web, RawMessageDelivery="true", DeliveryPolicy=policy)
    aws.client("sns").publish(TopicArn=topic, Message='{"a": 1}')
    eventually(lambda: len(web.heard) == 2)
    headers, _ = web.heard[-1]
    assert web.bodies[-1] == '{"a": 1}'
    assert (headers["x-amz-sns-rawdelivery"], headers["content-type"]) == ("true", "application/json")


def test_credentials_of_a_url_are_sent(aws: Account, web: Web) -> None:
    subscribed(aws, new_topic(aws), web.url.replace("http://", "http://ada:pass%20word@"), "http")
    eventually(lambda: web.heard)
    assert web.heard[0][0]["authorization"] == f"Basic {base64.b64encode(b'ada:pass word').decode()}"


def test_a_failing_web_server_ends_in_the_dead_letter_queue(
    later_aws: Account, timed: TestServer, passes: Callable[[float], None], web: Web
) -> None:
    sns, topic = later_aws.client("sns"), new_topic(later_aws)
    url, queue = new_queue(later_aws, "dead", topic=topic)
    listening(later_aws, topic, web, RedrivePolicy=json.dumps({"deadLetterTargetArn": queue}))
    web.status = 503
    message_id = sns.publish(TopicArn=topic, Message="lost?")["MessageId"]
    for attempts in range(1, 4):
        eventually(partial(has_heard, web, attempts))
        assert is_empty(later_aws, url)
        passes(20)
    (letter,) = received(later_aws, url)
    content = json.loads(letter["Body"])
    assert (content["MessageId"], content["Message"]) == (message_id, "lost?")
    assert len(web.of_kind("Notification")) == 4
    verify(content)
    web.status = 404
    sns.publish(TopicArn=topic, Message="never")
    assert told(later_aws, url) == ["never"]
    assert len(web.of_kind("Notification")) == 5


def test_a_queue_that_lets_nobody_in_ends_in_the_dead_letter_queue(aws: Account) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    shut = aws.client("sqs").create_queue(QueueName="shut")["QueueUrl"]
    dead_url, dead = new_queue(aws, "dead", topic=topic)
    open_url, open_queue = new_queue(aws, "open", topic=f"{topic}-other")
    for name in ("shut", "gone"):
        subscribed(
            aws, topic, f"arn:aws:sqs:us-east-1:{aws.account}:{name}", RedrivePolicy=json.dumps({"deadLetterTargetArn": dead})
        )
    subscribed(aws, topic, open_queue)
    sns.publish(TopicArn=topic, Message="m")
    assert told(aws, dead_url, 2) == ["m", "m"]
    assert is_empty(aws, shut)
    assert is_empty(aws, open_url)


def test_a_stopped_subscriber_gets_the_message_when_it_is_back(
    later_aws: Account, passes: Callable[[float], None], web: Web
) -> None:
    sns, topic = later_aws.client("sns"), new_topic(later_aws)
    policy = {
        "healthyRetryPolicy": {"numRetries": 10, "minDelayTarget": 60, "maxDelayTarget": 600, "backoffFunction": "exponential"}
    }
    listening(later_aws, topic, web, DeliveryPolicy=json.dumps(policy))
    web.status = 500
    sns.publish(TopicArn=topic, Message="while you were away")
    eventually(lambda: len(web.of_kind("Notification")) == 1)
    passes(100)
    assert len(web.of_kind("Notification")) == 2
    web.status = 200
    passes(100)
    assert [content["Message"] for content in web.of_kind("Notification")] == ["while you were away"] * 3
    passes(3600)
    assert len(web.of_kind("Notification")) == 3


def test_a_slow_web_server_holds_up_nobody(aws: Account, web: Web) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    url, queue = new_queue(aws)
    other = Web()
    try:
        listening(aws, topic, web)
        listening(aws, topic, other)
        subscribed(aws, topic, queue)
        web.gate.clear()
        for number in range(10):
            sns.publish(TopicArn=topic, Message=str(number))
        assert sorted(told(aws, url, 10)) == [str(number) for number in range(10)]
        eventually(lambda: len(other.of_kind("Notification")) == 10)
        assert web.of_kind("Notification") == []
        web.gate.set()
        eventually(lambda: len(web.of_kind("Notification")) == 10)
    finally:
        other.close()


def test_no_more_a_second_than_the_policy_says(aws: Account, web: Web) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    listening(aws, topic, web, DeliveryPolicy='{"throttlePolicy": {"maxReceivesPerSecond": 10}}')
    begun = time.monotonic()
    for _ in range(6):
        sns.publish(TopicArn=topic, Message="m")
    eventually(lambda: len(web.of_kind("Notification")) == 6)
    assert time.monotonic() - begun > 0.45


def test_the_phases_of_retries() -> None:
    delays = [MANAGED.delay_s(tries) or 0.0 for tries in range(16)]
    assert delays[:5] == [0, 0, 0, 1, 1]
    assert delays[14:] == [20, 20]
    assert all(first <= second for first, second in itertools.pairwise(delays))
    assert MANAGED.delay_s(100_014) == 20
    assert MANAGED.delay_s(100_015) is None
    assert [UNMANAGED.delay_s(tries) for tries in (0, 1, 11, 49, 50)] == [10, 10, 600, 600, None]
    linear = Phases(1, 1, 4, 1, 2, 10, "linear")
    assert [linear.delay_s(tries) for tries in range(8)] == [0, 2, 4, 6, 8, 10, 10, None]
    steep = [Phases(0, 0, 4, 0, 2, 10, name).delay_s(1) for name in ("linear", "arithmetic", "geometric")]
    assert steep == [6.0, 4.0, 3.0]


def test_a_function_gets_the_native_event(aws: Account) -> None:
    sns, functions, topic = aws.client("sns"), aws.client("lambda"), new_topic(aws)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", "def handler(event, context):\n    print('heard', __import__('json').dumps(event))\n")
    role = aws.role(
        "runs",
        "lambda.amazonaws.com",
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]},
    )
    arn = functions.create_function(
        FunctionName="hears", Runtime="python3.11", Role=role, Handler="index.handler", Code={"ZipFile": archive.getvalue()}
    )["FunctionArn"]
    functions.add_permission(
        FunctionName="hears", StatementId="sns", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com", SourceArn=topic
    )
    subscription = subscribed(aws, topic, arn, "lambda")
    dead_url, dead = new_queue(aws, "dead")
    other = new_topic(aws, "other")
    subscribed(aws, other, arn, "lambda", RedrivePolicy=json.dumps({"deadLetterTargetArn": dead}))
    sns.publish(TopicArn=topic, Message="to a function", MessageAttributes={"a": {"DataType": "String", "StringValue": "x"}})
    logs = aws.client("logs")

    def heard() -> list[str]:
        try:
            events = logs.filter_log_events(logGroupName="/aws/lambda/hears", filterPattern="heard")["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"].partition("heard ")[2] for event in events]

    (text,) = eventually(heard)
    (record,) = json.loads(text)["Records"]
    assert (record["EventSource"], record["EventVersion"], record["EventSubscriptionArn"]) == ("aws:sns", "1.0", subscription)
    told_it = record["Sns"]
    assert (told_it["Message"], told_it["Subject"], told_it["TopicArn"]) == ("to a function", None, topic)
    assert told_it["MessageAttributes"] == {"a": {"Type": "String", "Value": "x"}}
    assert {"SigningCertUrl", "UnsubscribeUrl", "Signature", "Timestamp", "MessageId"} <= set(told_it)
    sns.publish(TopicArn=other, Message="not allowed")
    assert told(aws, dead_url) == ["not allowed"]


def test_delivery_status_is_logged_where_a_role_is_named(aws: Account) -> None:
    sns, logs = aws.client("sns"), aws.client("logs")
    writing = {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "*"}
    role = aws.role("status", "sns.amazonaws.com", {"Version": "2012-10-17", "Statement": [writing]})
    topic = new_topic(aws, SQSSuccessFeedbackRoleArn=role, SQSFailureFeedbackRoleArn=role, SQSSuccessFeedbackSampleRate="100")
    _, queue = new_queue(aws)
    subscribed(aws, topic, queue)
    subscribed(aws, topic, queue.replace(":one", ":gone"))
    message_id = sns.publish(TopicArn=topic, Message="m")["MessageId"]

    def logged(suffix: str) -> list[dict[str, Any]]:
        try:
            events = logs.filter_log_events(logGroupName=f"sns/us-east-1/{aws.account}/news{suffix}")["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [json.loads(event["message"]) for event in events]

    (good,), (bad,) = eventually(lambda: logged("") and logged("/Failure") and (logged(""), logged("/Failure")))
    assert (good["status"], good["notification"]["messageId"], good["delivery"]["destination"]) == ("SUCCESS", message_id, queue)
    assert (bad["status"], bad["delivery"]["attempts"]) == ("FAILURE", 1)


def test_delivery_status_of_pushes_and_text_messages(aws: Account) -> None:
    sns, logs = aws.client("sns"), aws.client("logs")
    writing = {"Effect": "Allow", "Action": "logs:*", "Resource": "*"}
    role = aws.role("status", "sns.amazonaws.com", {"Version": "2012-10-17", "Statement": [writing]})
    attributes = {"PlatformCredential": "secret", "SuccessFeedbackRoleArn": role, "SuccessFeedbackSampleRate": "100"}
    app = sns.create_platform_application(Name="app", Platform="GCM", Attributes=attributes)["PlatformApplicationArn"]
    phone = sns.create_platform_endpoint(PlatformApplicationArn=app, Token="t")["EndpointArn"]
    sns.set_sms_attributes(attributes={"DeliveryStatusIAMRole": role, "DeliveryStatusSuccessSamplingRate": "100"})
    pushed = sns.publish(TargetArn=phone, Message="m")["MessageId"]
    texted = sns.publish(PhoneNumber="+15550100", Message="m")["MessageId"]
    for group, message_id in (("app/GCM/app", pushed), ("DirectPublishToPhoneNumber", texted)):
        (event,) = logs.filter_log_events(logGroupName=f"sns/us-east-1/{aws.account}/{group}")["events"]
        told_it = json.loads(event["message"])
        assert (told_it["status"], told_it["notification"]["messageId"]) == ("SUCCESS", message_id)


def test_figures_and_the_bill(later_aws: Account, timed: TestServer, passes: Callable[[float], None]) -> None:
    sns, topic = later_aws.client("sns"), new_topic(later_aws)
    url, queue = new_queue(later_aws)
    subscribed(later_aws, topic, queue)
    subscribed(later_aws, topic, f"{queue}2", FilterPolicy='{"a": ["b"]}')
    now = timed.cloud.clock.now()
    for size in (10, 100_000):
        sns.publish(TopicArn=topic, Message="x" * size)
    assert len(told(later_aws, url, 2)) == 2
    passes(600)

    def total(name: str) -> float:
        points = later_aws.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SNS",
            MetricName=name,
            Dimensions=[{"Name": "TopicName", "Value": "news"}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(point["Sum"] for point in points))

    assert total("NumberOfMessagesPublished") == 2
    assert total("NumberOfNotificationsDelivered") == 2
    assert total("NumberOfNotificationsFilteredOut") == 2
    assert total("NumberOfNotificationsFilteredOut-NoMessageAttributes") == 2
    assert total("PublishSize") == 100_010
    lines = lines_between(timed.cloud.store, later_aws.account, now - timedelta(hours=2), now + timedelta(hours=2))
    counts: dict[str, int] = {}
    for line in lines:
        if line.meter.product == "AmazonSNS":
            counts[line.meter.usage] = counts.get(line.meter.usage, 0) + int(line.quantity)
    assert counts == {"Requests-Tier1": 3, "DeliveryAttempts-SQS": 2}


def test_a_dead_letter_queue_that_is_gone_leaves_a_dead_letter_of_the_cloud(aws: Account, server: TestServer) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    gone = f"arn:aws:sqs:us-east-1:{aws.account}:gone"
    arn = subscribed(aws, topic, gone, RedrivePolicy=json.dumps({"deadLetterTargetArn": f"{gone}-too"}))
    sns.publish(TopicArn=topic, Message="m")
    lane = arn.rpartition(":")[2]
    eventually(lambda: [entry for entry in server.cloud.delivery.log.dead("sns/sqs", limit=1000) if entry.lane == lane])


def test_the_servers_own_doors_are_shut(aws: Account, server: TestServer) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    port = server.endpoint.rpartition(":")[2]
    subscribed(aws, topic, f"http://localhost:{port}/_pilvi/reset", "http")
    eventually(lambda: not server.cloud.delivery.log.lanes("sns/http"))
    assert len(sns.list_topics()["Topics"]) == 1
