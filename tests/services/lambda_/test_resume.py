"""What Lambda was given before a kill -9 is done by the next server on the same data, and nobody has to ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import eventually
from pilvi.testing.up import Up

SECRET = "plaintext-of-an-event"
CODE = """
def handler(event, context):
    print("got", event if isinstance(event, str) else [record["body"] for record in event.get("Records", ())])
    return {"doubled": 2 * event["number"]} if "number" in event else None
"""
ALLOWED = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["logs:*", "sqs:*"], "Resource": "*"}]}


def begin(first: Up, lab: Any) -> None:
    """Events that wait, results on their way, and messages for a mapping."""
    sqs, client = first.root.client("sqs"), first.root.client("lambda")
    role = first.root.role("function", "lambda.amazonaws.com", ALLOWED)
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("results", "work")}
    arns = {
        name: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        for name, url in urls.items()
    }
    for name in ("later", "fed", "telling"):
        code = {"ZipFile": lab.zipped({"index.py": CODE})}
        client.create_function(FunctionName=name, Runtime="python3.11", Handler="index.handler", Role=role, Code=code)
    client.put_function_event_invoke_config(
        FunctionName="telling", DestinationConfig={"OnSuccess": {"Destination": arns["results"]}}
    )
    client.create_event_source_mapping(FunctionName="fed", EventSourceArn=arns["work"])
    client.invoke(FunctionName="later", Payload=b'"warm"')["Payload"].read()
    for name in ("later", "fed"):
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    sqs.send_message(QueueUrl=urls["work"], MessageBody="survivor", DelaySeconds=1)
    answer = client.invoke(FunctionName="later", InvocationType="Event", Payload=json.dumps(SECRET))
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    for number in range(6):
        client.invoke(FunctionName="telling", InvocationType="Event", Payload=json.dumps({"number": number}))["Payload"].read()
    for name in ("later", "fed"):
        client.delete_function_concurrency(FunctionName=name)


@pytest.fixture(scope="module")
def second(tmp_path_factory, lab) -> Any:
    folder: Path = tmp_path_factory.mktemp("killed")
    first = Up(folder)
    try:
        begin(first, lab)
    finally:
        first.kill()
    assert [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []
    second = Up(folder)
    yield second
    second.kill()


@pytest.mark.parametrize(("function", "word"), [("later", SECRET), ("fed", "survivor")])
def test_events_and_messages_are_handled(second, function, word):
    logs = second.root.client("logs")

    def got() -> bool:
        try:
            return bool(logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern=f'"{word}"')["events"])
        except logs.exceptions.ResourceNotFoundException:
            return False

    assert eventually(got)


def test_results_arrive(second):
    sqs = second.root.client("sqs")
    url = sqs.get_queue_url(QueueName="results")["QueueUrl"]
    seen: set[int] = set()

    def all_there() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", ()):
            seen.add(json.loads(message["Body"])["responsePayload"]["doubled"])
        return len(seen) == 6

    assert eventually(all_there)
