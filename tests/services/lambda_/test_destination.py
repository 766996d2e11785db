"""Where the results of asynchronous invocations go: destinations, dead letters, and when they are given up."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.lambda_ import event_queue, schedule
from pilvi.services.lambda_.destinations import CONSUMER
from pilvi.testing.server import TestServer, eventually
from tests.services.lambda_.conftest import Lab

CODE = """
def handler(event, context):
    if event.get("fail"):
        raise ValueError("told to fail")
    return {"doubled": event["number"] * 2}
"""


class Post:
    """Queues to look into."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.sqs = lab.account.client("sqs")

    def queue(self, name: str) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        return url, self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def next(self, url: str) -> dict[str, Any]:
        def found() -> Any:
            return self.sqs.receive_message(
                QueueUrl=url, WaitTimeSeconds=5, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
            ).get("Messages")

        message = eventually(found)[0]
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return dict(message)


@pytest.fixture(scope="module")
def post(lab) -> Post:
    lab.grant("send", "sqs:SendMessage", "lambda:InvokeFunction", "s3:PutObject")
    return Post(lab)


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    monkeypatch.setattr(event_queue, "RETRY_S", (0.0, 0.0))


def test_a_failing_event_is_retried_twice_and_lands_in_the_destination(lab, post):
    url, arn = post.queue("failures")
    made = lab.create("failing", CODE)
    lab.client.put_function_event_invoke_config(FunctionName="failing", DestinationConfig={"OnFailure": {"Destination": arn}})
    answer = lab.raw(FunctionName="failing", InvocationType="Event", Payload=b'{"fail": true}')
    record = json.loads(post.next(url)["Body"])
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert record["version"] == "1.0"
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": f"{made['FunctionArn']}:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    }
    assert record["requestPayload"] == {"fail": True}
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert (record["responsePayload"]["errorType"], record["responsePayload"]["errorMessage"]) == ("ValueError", "told to fail")
    assert record["timestamp"].endswith("Z")


def test_a_success_is_told_too(lab, post):
    url, arn = post.queue("successes")
    lab.create("doubling", CODE, Publish=True)
    config = {"OnSuccess": {"Destination": arn}}
    lab.client.put_function_event_invoke_config(FunctionName="doubling", Qualifier="1", DestinationConfig=config)
    lab.raw(FunctionName="doubling", Qualifier="1", InvocationType="Event", Payload=b'{"number": 21}')
    record = json.loads(post.next(url)["Body"])
    assert record["requestContext"]["condition"] == "Success"
    assert record["requestContext"]["functionArn"].endswith(":function:doubling:1")
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "1"}
    assert record["responsePayload"] == {"doubled": 42}


def test_a_function_may_be_the_destination(lab, post):
    url, arn = post.queue("relayed")
    relay = lab.create("relay", CODE.replace('{"doubled": event["number"] * 2}', 'event["responsePayload"]'))
    lab.client.put_function_event_invoke_config(FunctionName="relay", DestinationConfig={"OnSuccess": {"Destination": arn}})
    lab.create("first", CODE)
    config = {"OnSuccess": {"Destination": relay["FunctionArn"]}}
    lab.client.put_function_event_invoke_config(FunctionName="first", DestinationConfig=config)
    lab.raw(FunctionName="first", InvocationType="Event", Payload=b'{"number": 4}')
    assert json.loads(post.next(url)["Body"])["responsePayload"] == {"doubled": 8}


def test_a_topic_may_be_the_destination_and_take_dead_letters(lab, post):
    lab.grant("publish", "sns:Publish")
    sns = lab.account.client("sns")
    topic = sns.create_topic(Name="results")["TopicArn"]
    url, arn = post.queue("from-topic")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
        ],
    }
    post.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    lab.create("published", CODE, DeadLetterConfig={"TargetArn": topic})
    lab.client.put_function_event_invoke_config(
        FunctionName="published", MaximumRetryAttempts=0, DestinationConfig={"OnSuccess": {"Destination": topic}}
    )
    lab.raw(FunctionName="published", InvocationType="Event", Payload=b'{"number": 3}')
    told = json.loads(json.loads(post.next(url)["Body"])["Message"])
    assert (told["requestContext"]["condition"], told["responsePayload"]) == ("Success", {"doubled": 6})
    lab.raw(FunctionName="published", InvocationType="Event", Payload=b'{"fail": true}')
    letter = json.loads(post.next(url)["Body"])
    assert json.loads(letter["Message"]) == {"fail": True}
    assert letter["MessageAttributes"]["ErrorMessage"] == {"Type": "String", "Value": "told to fail"}


def test_an_event_bus_may_be_the_destination(lab, post):
    lab.grant("put", "events:PutEvents")
    events = lab.account.client("events")
    bus = events.create_event_bus(Name="results")["EventBusArn"]
    url, arn = post.queue("from-bus")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
        ],
    }
    post.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    pattern = json.dumps({"source": ["lambda"], "detail-type": ["Lambda Function Invocation Result - Success"]})
    events.put_rule(Name="told", EventBusName="results", EventPattern=pattern)
    events.put_targets(Rule="told", EventBusName="results", Targets=[{"Id": "queue", "Arn": arn}])
    made = lab.create("bussed", CODE)
    lab.client.put_function_event_invoke_config(FunctionName="bussed", DestinationConfig={"OnSuccess": {"Destination": bus}})
    lab.raw(FunctionName="bussed", InvocationType="Event", Payload=b'{"number": 5}')
    event = json.loads(post.next(url)["Body"])
    assert event["resources"] == [bus, f"{made['FunctionArn']}:$LATEST"]
    assert event["detail"]["responsePayload"] == {"doubled": 10}


def test_a_bucket_may_take_failures(lab, post):
    bucket = f"failures-{lab.account.account}"
    s3 = lab.account.client("s3")
    s3.create_bucket(Bucket=bucket)
    lab.create("archived", CODE)
    lab.client.put_function_event_invoke_config(
        FunctionName="archived", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{bucket}"}}
    )
    lab.raw(FunctionName="archived", InvocationType="Event", Payload=b'{"fail": true}')
    (found,) = eventually(lambda: s3.list_objects_v2(Bucket=bucket).get("Contents"))
    assert found["Key"].startswith("aws/lambda/async/archived/")
    record = json.loads(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
    assert record["requestContext"]["approximateInvokeCount"] == 1


def test_a_dead_letter_is_the_event_with_its_error(lab, post):
    url, arn = post.queue("letters")
    made = lab.create("dead", CODE, DeadLetterConfig={"TargetArn": arn})
    assert made["DeadLetterConfig"] == {"TargetArn": arn}
    answer = lab.raw(FunctionName="dead", InvocationType="Event", Payload=b'{"fail": true}')
    message = post.next(url)
    assert json.loads(message["Body"]) == {"fail": True}
    attributes = message["MessageAttributes"]
    assert attributes["RequestID"]["StringValue"] == answer["ResponseMetadata"]["RequestId"]
    assert (attributes["ErrorCode"]["DataType"], attributes["ErrorCode"]["StringValue"]) == ("Number", "200")
    assert attributes["ErrorMessage"]["StringValue"] == "told to fail"
    changed = lab.client.update_function_configuration(FunctionName="dead", DeadLetterConfig={"TargetArn": ""})
    assert "DeadLetterConfig" not in changed


def test_with_no_concurrency_reserved_events_are_given_up_at_once(lab, post):
    url, arn = post.queue("stopped")
    lab.create("stopped", CODE, DeadLetterConfig={"TargetArn": arn})
    lab.client.put_function_concurrency(FunctionName="stopped", ReservedConcurrentExecutions=0)
    lab.raw(FunctionName="stopped", InvocationType="Event", Payload=b'{"number": 1}')
    assert post.next(url)["MessageAttributes"]["ErrorCode"]["StringValue"] == "429"


def test_destinations_that_cannot_be_are_refused(lab, post):
    _, arn = post.queue("checked")
    made = lab.create("checked", CODE)
    account = lab.account.account
    for where, text in (
        (f"{arn}.fifo", "is invalid"),
        (f"{arn}-missing", "is invalid"),
        ("arn:aws:dynamodb:us-east-1:123456789012:table/t", "is invalid"),
        (made["FunctionArn"], "for itself"),
        (f"arn:aws:lambda:us-east-1:{account}:function:nobody", "is invalid"),
    ):
        with pytest.raises(ClientError, match=text) as error:
            lab.client.put_function_event_invoke_config(
                FunctionName="checked", DestinationConfig={"OnFailure": {"Destination": where}}
            )
        assert error.value.response["Error"]["Code"] == "InvalidParameterValueException"
    with pytest.raises(ClientError, match="is invalid"):  # buckets take failures only
        lab.client.put_function_event_invoke_config(
            FunctionName="checked", DestinationConfig={"OnSuccess": {"Destination": "arn:aws:s3:::bucket"}}
        )
    with pytest.raises(ClientError, match="TargetArn"):
        lab.client.update_function_configuration(FunctionName="checked", DeadLetterConfig={"TargetArn": made["FunctionArn"]})


@pytest.mark.parametrize("how", ["DestinationDeliveryFailures", "DeadLetterErrors"])
def test_a_target_that_went_is_counted_and_the_result_kept(server, lab, post, how):
    name = f"lost-{how}"
    url, arn = post.queue(name)
    lab.create(name, CODE, **({"DeadLetterConfig": {"TargetArn": arn}} if how == "DeadLetterErrors" else {}))
    config = {} if how == "DeadLetterErrors" else {"DestinationConfig": {"OnFailure": {"Destination": arn}}}
    lab.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0, **config)
    post.sqs.delete_queue(QueueUrl=url)
    lab.raw(FunctionName=name, InvocationType="Event", Payload=b'{"fail": true}')

    def letters() -> list[Any]:
        return [entry for entry in server.cloud.delivery.log.dead(CONSUMER) if entry.lane == arn]

    (letter,) = eventually(letters)
    assert "does not exist" in letter.error
    schedule.publish(server.cloud)
    cloudwatch, now = lab.account.client("cloudwatch"), server.cloud.clock.now()
    found = cloudwatch.get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=how,
        Dimensions=[{"Name": "FunctionName", "Value": name}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    assert sum(point["Sum"] for point in found) == 1


def test_the_role_must_be_let_in(new_lab):
    lab = new_lab()
    post = Post(lab)
    _, arn = post.queue("locked")
    with pytest.raises(ClientError, match="execution role does not have permissions to call SendMessage on SQS"):
        lab.create("locked", CODE, DeadLetterConfig={"TargetArn": arn})
    lab.create("locked", CODE)
    with pytest.raises(ClientError, match="execution role does not have permissions to call SendMessage on SQS"):
        lab.client.put_function_event_invoke_config(FunctionName="locked", DestinationConfig={"OnFailure": {"Destination": arn}})
    lab.grant("send", "sqs:SendMessage")
    lab.client.put_function_event_invoke_config(FunctionName="locked", DestinationConfig={"OnFailure": {"Destination": arn}})


def test_retries_and_age_follow_the_products_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(event_queue, "RETRY_S", (60.0, 120.0))
    with TestServer(tmp_path) as own:
        lab = Lab(own.account("111122223333"))
        lab.grant("send", "sqs:SendMessage")
        post = Post(lab)
        url, arn = post.queue("late")
        lab.create("late", CODE)
        lab.client.put_function_event_invoke_config(
            FunctionName="late", MaximumEventAgeInSeconds=100, DestinationConfig={"OnFailure": {"Destination": arn}}
        )
        lab.raw(FunctionName="late", InvocationType="Event", Payload=b'{"fail": true}')
        table = event_queue.Table("111122223333", "us-east-1", event_queue.SERVICE, "Event")
        eventually(lambda: [row for row in own.cloud.store.scan(table) if row.value["errors"] == 1])
        own.cloud.advance_clock(61)
        record = json.loads(post.next(url)["Body"])
        assert record["requestContext"]["condition"] == "EventAgeExceeded"
        assert record["requestContext"]["approximateInvokeCount"] == 2
