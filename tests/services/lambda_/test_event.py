from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from pilvi.services.lambda_ import event_queue
from pilvi.services.lambda_.engine import Engine
from pilvi.storage.records import Table
from pilvi.testing.server import eventually

RECORD = """
import boto3, json
def handler(event, context):
    boto3.client("s3").put_object(Bucket=event["bucket"], Key=f"{event['key']}/{context.aws_request_id}", Body=json.dumps(event).encode())
"""
FAIL = """
def handler(event, context):
    print("attempt", event)
    raise ValueError("always")
"""


@pytest.fixture(scope="module")
def bucket(lab):
    name = f"events-{lab.account.account}"
    lab.account.client("s3").create_bucket(Bucket=name)
    lab.grant("s3", "s3:PutObject")
    return name


@pytest.fixture
def pending(server, lab):
    """The events that are kept for the lab's account."""
    table = Table(lab.account.account, "us-east-1", event_queue.SERVICE, "Event")
    return lambda: server.cloud.store.scan(table)


def test_invoke_event_is_handled_after_the_answer(lab, bucket, pending):
    lab.create("recording", RECORD, Timeout=30, MemorySize=256)
    payload = json.dumps({"bucket": bucket, "key": "one"})
    answer = lab.raw(FunctionName="recording", InvocationType="Event", Payload=payload)
    assert answer["StatusCode"] == 202
    assert answer["Payload"].read() == b""
    s3 = lab.account.client("s3")
    found = eventually(lambda: s3.list_objects_v2(Bucket=bucket, Prefix="one/").get("Contents"))
    assert [item["Key"] for item in found] == [f"one/{answer['ResponseMetadata']['RequestId']}"]
    eventually(lambda: not pending())


def test_invoke_event_is_tried_three_times(lab, pending, monkeypatch):
    monkeypatch.setattr(event_queue, "RETRY_S", (0.0, 0.0))
    lab.create("failing-event", FAIL)
    lab.grant("logs", "logs:*")
    lab.raw(FunctionName="failing-event", InvocationType="Event", Payload=b"7")
    eventually(lambda: not pending())
    logs = lab.account.client("logs")
    assert eventually(lambda: attempts(logs, "failing-event") == 3)


def attempts(logs, name: str) -> int:
    try:
        found = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern='"attempt 7"')
    except logs.exceptions.ResourceNotFoundException:
        return 0
    return len(found["events"])


def test_put_function_event_invoke_config_limits_retries(lab, pending):
    lab.create("once", FAIL)
    lab.client.put_function_event_invoke_config(FunctionName="once", MaximumRetryAttempts=0)
    lab.grant("logs", "logs:*")
    lab.raw(FunctionName="once", InvocationType="Event", Payload=b"7")
    eventually(lambda: not pending())
    logs = lab.account.client("logs")
    assert eventually(lambda: attempts(logs, "once") == 1)


def test_put_function_event_invoke_config_life(lab):
    arn = lab.create("configured", Publish=True)["FunctionArn"].removesuffix(":1")
    made = lab.client.put_function_event_invoke_config(FunctionName="configured", MaximumRetryAttempts=1)
    assert made["FunctionArn"] == f"{arn}:$LATEST"
    lab.client.put_function_event_invoke_config(FunctionName="configured", Qualifier="1", MaximumEventAgeInSeconds=60)
    changed = lab.client.update_function_event_invoke_config(FunctionName="configured", MaximumEventAgeInSeconds=90)
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (1, 90)
    assert lab.client.get_function_event_invoke_config(FunctionName="configured")["MaximumEventAgeInSeconds"] == 90
    found = lab.client.list_function_event_invoke_configs(FunctionName="configured")["FunctionEventInvokeConfigs"]
    assert [item["FunctionArn"] for item in found] == [f"{arn}:$LATEST", f"{arn}:1"]
    lab.client.delete_function_event_invoke_config(FunctionName="configured")
    for call in (lab.client.get_function_event_invoke_config, lab.client.delete_function_event_invoke_config):
        with pytest.raises(ClientError) as error:
            call(FunctionName="configured")
        assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_invoke_event_waits_while_it_is_throttled(lab, bucket, pending, monkeypatch):
    monkeypatch.setattr(event_queue, "_BACKOFF_S", (0.05, 0.05))
    lab.create("stopped", RECORD, Timeout=30, MemorySize=256)
    lab.client.put_function_concurrency(FunctionName="stopped", ReservedConcurrentExecutions=0)
    lab.raw(FunctionName="stopped", InvocationType="Event", Payload=json.dumps({"bucket": bucket, "key": "late"}))
    assert eventually(lambda: [row for row in pending() if row.value["refusals"] > 1])
    lab.client.delete_function_concurrency(FunctionName="stopped")
    s3 = lab.account.client("s3")
    assert eventually(lambda: s3.list_objects_v2(Bucket=bucket, Prefix="late/").get("Contents"))
    eventually(lambda: not pending())


def test_the_engine_is_there_only_once(server, lab):
    lab.create("any")
    lab.invoke("any")
    assert isinstance(server.cloud.memory["lambda"], Engine)


def test_events_of_a_function_that_goes_go_with_it(lab, pending, monkeypatch):
    monkeypatch.setattr(event_queue, "_BACKOFF_S", (0.05, 0.05))
    lab.create("going", RECORD)
    lab.client.put_function_concurrency(FunctionName="going", ReservedConcurrentExecutions=0)
    lab.raw(FunctionName="going", InvocationType="Event", Payload=b"{}")
    assert eventually(lambda: [row for row in pending() if row.value["refusals"] > 1])
    lab.client.delete_function(FunctionName="going")
    eventually(lambda: not pending())


def test_events_that_are_too_old_are_not_run(lab, pending, monkeypatch):
    monkeypatch.setattr(event_queue, "_BACKOFF_S", (0.05, 0.05))
    monkeypatch.setattr(event_queue, "MAX_AGE_S", 0.3)
    lab.create("aged", FAIL)
    lab.client.put_function_concurrency(FunctionName="aged", ReservedConcurrentExecutions=0)
    lab.raw(FunctionName="aged", InvocationType="Event", Payload=b"7")
    eventually(lambda: not pending())
