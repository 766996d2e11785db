"""What flows through pipes: filtered, enriched, reshaped, in batches; and what comes back when a target does not take it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilvi.testing.server import eventually
from tests.services.pipes.conftest import Plumber

ECHO = "def handler(event, context):\n    print(event)\n    return event\n"


def test_a_message_reaches_a_queue_as_its_record(plumber: Plumber) -> None:
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    plumber.pipe(source, target)
    plumber.sqs.send_message(
        QueueUrl=url, MessageBody='{"a": 1}', MessageAttributes={"kind": {"DataType": "String", "StringValue": "x"}}
    )
    found = json.loads(plumber.received(to)[0])
    assert (found["body"], found["eventSource"], found["eventSourceARN"]) == ('{"a": 1}', "aws:sqs", source)
    assert found["messageAttributes"]["kind"]["stringValue"] == "x"
    assert {"messageId", "receiptHandle", "attributes", "md5OfBody", "awsRegion"} <= found.keys()
    eventually(lambda: plumber.left(url) == (0, 0))


def test_filters_let_through_what_fits_and_remove_the_rest(plumber: Plumber) -> None:
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    filters = {"Filters": [{"Pattern": '{"body": {"kind": ["good"]}}'}]}
    plumber.pipe(
        source, target, SourceParameters={"FilterCriteria": filters}, TargetParameters={"InputTemplate": "<$.body.number>"}
    )
    plumber.send(url, {"kind": "bad", "number": 1}, {"kind": "good", "number": 2}, "no json", {"kind": "good", "number": 3})
    assert sorted(plumber.received(to, 2)) == ["2", "3"]
    eventually(lambda: plumber.left(url) == (0, 0))
    assert plumber.left(to) == (0, 0)


def test_templates_reshape_each_event(plumber: Plumber) -> None:
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    template = (
        '{"user": <$.body.user>, "first": <$.body.items[0]>, "text": "to <$.body.user.name>, <$.body.none>", '
        '"pipe": "<aws.pipes.pipe-name>", "source": <aws.pipes.source-arn>}'
    )
    name = plumber.pipe(source, target, TargetParameters={"InputTemplate": template})
    plumber.send(url, {"user": {"name": 'An "a"'}, "items": [1, 2]})
    assert json.loads(plumber.received(to)[0]) == {
        "user": {"name": 'An "a"'},
        "first": 1,
        "text": 'to An "a", ',
        "pipe": name,
        "source": source,
    }


def test_a_fifo_target_gets_its_group_from_the_event(plumber: Plumber) -> None:
    (url, source), (to, target) = plumber.queue(), plumber.queue("line.fifo", FifoQueue="true")
    parameters = {"SqsQueueParameters": {"MessageGroupId": "$.body.group", "MessageDeduplicationId": "$.messageId"}}
    plumber.pipe(source, target, TargetParameters={**parameters, "InputTemplate": "<$.body.n>"})
    plumber.send(url, {"group": "a", "n": 1})

    def received() -> list[dict[str, Any]]:
        answer = plumber.sqs.receive_message(QueueUrl=to, MessageSystemAttributeNames=["All"])
        return list(answer.get("Messages", []))

    (message,) = eventually(received)
    assert (message["Body"], message["Attributes"]["MessageGroupId"]) == ("1", "a")


def test_a_function_gets_a_list_and_says_what_failed(plumber: Plumber) -> None:
    code = (
        "import json\n"
        "import boto3\n"
        "def handler(events, context):\n"
        "    bad = [e['messageId'] for e in events if json.loads(e['body'])['n'] == 2]\n"
        "    return {'batchItemFailures': [{'itemIdentifier': i} for i in bad]}\n"
    ).replace("import boto3\n", "")
    url, source = plumber.queue(VisibilityTimeout="600")
    batch = {"SqsQueueParameters": {"BatchSize": 3, "MaximumBatchingWindowInSeconds": 2}}
    plumber.pipe(source, plumber.function(code), SourceParameters=batch)
    plumber.send(url, {"n": 1}, {"n": 2}, {"n": 3})
    eventually(lambda: plumber.left(url) == (0, 1))


def test_a_function_that_fails_leaves_the_whole_batch(plumber: Plumber) -> None:
    url, source = plumber.queue(VisibilityTimeout="600")
    name = plumber.pipe(source, plumber.function("def handler(events, context):\n    raise ValueError('no')\n"))
    plumber.send(url, {"n": 1})
    eventually(lambda: plumber.left(url) == (0, 1))
    plumber.pipes.stop_pipe(Name=name)
    plumber.becomes(name, "STOPPED")
    assert plumber.left(url) == (0, 1)


def test_an_enrichment_changes_what_the_target_gets(plumber: Plumber) -> None:
    code = "import json\ndef handler(events, context):\n    return [{'double': 2 * e['n']} for e in events if e['n'] != 13]\n"
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    plumber.pipe(
        source,
        target,
        Enrichment=plumber.function(code),
        EnrichmentParameters={"InputTemplate": '{"n": <$.body.n>}'},
        TargetParameters={"InputTemplate": "doubled: <$.double>"},
    )
    plumber.send(url, {"n": 13}, {"n": 21})
    assert plumber.received(to) == ["doubled: 42"]
    eventually(lambda: plumber.left(url) == (0, 0))
    assert plumber.left(to) == (0, 0)


def test_a_topic_gets_messages(plumber: Plumber) -> None:
    sns = plumber.account.client("sns")
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    topic = sns.create_topic(Name="t")["TopicArn"]
    statement = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": target}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    plumber.sqs.set_queue_attributes(QueueUrl=to, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=target, Attributes={"RawMessageDelivery": "true"})
    plumber.pipe(source, topic, TargetParameters={"InputTemplate": "say <$.body>"})
    plumber.send(url, "hello")
    assert plumber.received(to) == ["say hello"]


def test_a_log_group_gets_lines(plumber: Plumber) -> None:
    logs = plumber.account.client("logs")
    logs.create_log_group(logGroupName="/lines")
    group = f"arn:aws:logs:us-east-1:{plumber.account.account}:log-group:/lines"
    url, source = plumber.queue()
    parameters = {"CloudWatchLogsParameters": {"LogStreamName": "$.body.stream"}, "InputTemplate": "<$.body.text>"}
    plumber.pipe(source, group, TargetParameters=parameters)
    plumber.send(url, {"stream": "a", "text": "one"}, {"stream": "b", "text": "two"})

    def lines() -> list[tuple[str, str]]:
        return [(event["logStreamName"], event["message"]) for event in logs.filter_log_events(logGroupName="/lines")["events"]]

    eventually(lambda: sorted(lines()) == [("a", "one"), ("b", "two")])


def test_a_pipe_logs_its_steps(plumber: Plumber) -> None:
    logs = plumber.account.client("logs")
    logs.create_log_group(logGroupName="/pipe")
    group = f"arn:aws:logs:us-east-1:{plumber.account.account}:log-group:/pipe"
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    settings = {"Level": "TRACE", "IncludeExecutionData": ["ALL"], "CloudwatchLogsLogDestination": {"LogGroupArn": group}}
    name = plumber.pipe(source, target, TargetParameters={"InputTemplate": "<$.body>"}, LogConfiguration=settings)
    plumber.send(url, "hello")
    plumber.received(to)

    def records() -> list[dict[str, Any]]:
        return [json.loads(event["message"]) for event in logs.filter_log_events(logGroupName="/pipe")["events"]]

    eventually(lambda: records() and records()[-1]["messageType"] == "EXECUTION_SUCCEEDED")
    found = records()
    assert [record["messageType"] for record in found] == [
        "EXECUTION_STARTED",
        "TARGET_STAGE_ENTERED",
        "TARGET_TRANSFORMATION_STARTED",
        "TARGET_TRANSFORMATION_SUCCEEDED",
        "TARGET_INVOCATION_STARTED",
        "TARGET_INVOCATION_SUCCEEDED",
        "TARGET_STAGE_SUCCEEDED",
        "EXECUTION_SUCCEEDED",
    ]
    assert len({record["executionId"] for record in found}) == 1
    assert found[0]["resourceArn"].endswith(f":pipe/{name}")
    assert json.loads(found[0]["payload"])[0]["body"] == "hello"


def test_errors_are_logged(plumber: Plumber) -> None:
    logs = plumber.account.client("logs")
    logs.create_log_group(logGroupName="/errors")
    group = f"arn:aws:logs:us-east-1:{plumber.account.account}:log-group:/errors"
    url, source = plumber.queue(VisibilityTimeout="600")
    missing = f"arn:aws:sqs:us-east-1:{plumber.account.account}:missing"
    settings = {"Level": "ERROR", "CloudwatchLogsLogDestination": {"LogGroupArn": group}}
    plumber.pipe(source, missing, LogConfiguration=settings)
    plumber.send(url, "hello")

    def records() -> list[dict[str, Any]]:
        return [json.loads(event["message"]) for event in logs.filter_log_events(logGroupName="/errors")["events"]]

    eventually(lambda: len(records()) == 3)
    assert [record["messageType"] for record in records()] == [
        "TARGET_INVOCATION_FAILED",
        "TARGET_STAGE_FAILED",
        "EXECUTION_FAILED",
    ]
    assert "payload" not in records()[0]
    assert "QueueDoesNotExist" in records()[0]["error"]["details"]


def test_a_stopped_pipe_leaves_messages_and_a_started_one_takes_them(plumber: Plumber) -> None:
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    name = plumber.pipe(source, target)
    plumber.pipes.stop_pipe(Name=name)
    plumber.becomes(name, "STOPPED")
    plumber.send(url, "waits")
    assert plumber.left(url) == (1, 0)
    plumber.pipes.start_pipe(Name=name)
    assert json.loads(plumber.received(to)[0])["body"] == "waits"


def test_source_and_target_are_the_roles(plumber: Plumber) -> None:
    """What the role may not do to the target fails the batch, which stays in the source."""
    (url, source), (to, target) = plumber.queue(VisibilityTimeout="600"), plumber.queue()
    read = {"Effect": "Allow", "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "Resource": source}
    role = plumber.account.role("reader", "pipes.amazonaws.com", {"Version": "2012-10-17", "Statement": [read]})
    plumber.pipes.create_pipe(Name="half", Source=source, Target=target, RoleArn=role)
    plumber.becomes("half", "RUNNING")
    plumber.send(url, "hello")
    eventually(lambda: plumber.left(url) == (0, 1))
    assert plumber.left(to) == (0, 0)


def test_a_fifo_source_keeps_its_order(plumber: Plumber) -> None:
    url, source = plumber.queue("in.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    to, target = plumber.queue("out.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    parameters = {"SqsQueueParameters": {"MessageGroupId": "$.attributes.MessageGroupId"}, "InputTemplate": "<$.body>"}
    plumber.pipe(source, target, SourceParameters={"SqsQueueParameters": {"BatchSize": 3}}, TargetParameters=parameters)
    for number in range(20):
        plumber.sqs.send_message(QueueUrl=url, MessageBody=f"{number:02}", MessageGroupId="a")
    assert plumber.received(to, 20) == [f"{number:02}" for number in range(20)]


def test_a_role_may_trust_one_pipe_only(plumber: Plumber) -> None:
    (_, source), (_, target) = plumber.queue(), plumber.queue()
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "pipes.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceArn": f"arn:aws:pipes:us-east-1:{plumber.account.account}:pipe/mine"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    plumber.account.client("iam").update_assume_role_policy(RoleName="plumber", PolicyDocument=policy)
    plumber.pipe(source, target, Name="mine")
    with pytest.raises(plumber.pipes.exceptions.ValidationException):
        plumber.pipe(source, target, Name="other")
