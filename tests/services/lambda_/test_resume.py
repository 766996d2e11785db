"""What Lambda was given before a kill -9 is done by the next server on the same data, and nobody has to ask."""

from __future__ import annotations

import json
from typing import Any

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
    for name in ("later", "fed"):
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    sqs.send_message(QueueUrl=urls["work"], MessageBody="survivor", DelaySeconds=1)
    for number in range(6):
        client.invoke(FunctionName="telling", InvocationType="Event", Payload=json.dumps({"number": number}))["Payload"].read()
    answer = client.invoke(FunctionName="later", InvocationType="Event", Payload=json.dumps(SECRET))
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    for name in ("later", "fed"):
        client.delete_function_concurrency(FunctionName=name)


def test_a_killed_server_is_succeeded_by_one_that_goes_on(tmp_path, lab):
    first = Up(tmp_path)
    try:
        begin(first, lab)
    finally:
        first.kill()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []
    second = Up(tmp_path)
    try:
        for function, word in (("later", SECRET), ("fed", "survivor")):
            assert eventually(lambda function=function, word=word: has_said(second, function, word), within_s=60)
        sqs = second.root.client("sqs")
        url = sqs.get_queue_url(QueueName="results")["QueueUrl"]
        seen: set[int] = set()
        assert eventually(lambda: len(seen.update(received(sqs, url)) or seen) == 6, within_s=60)
    finally:
        second.kill()


def has_said(server: Up, function: str, word: str) -> bool:
    logs = server.root.client("logs")
    try:
        return bool(logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern=f'"{word}"')["events"])
    except logs.exceptions.ResourceNotFoundException:
        return False


def received(sqs: Any, url: str) -> list[int]:
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", ())
    return [json.loads(message["Body"])["responsePayload"]["doubled"] for message in messages]
