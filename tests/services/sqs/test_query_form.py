"""The older form of the API, XML, as SDKs of some years ago and curl speak it."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilvi.testing.server import Account

SPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"


def call(aws: Account, path: str, members: Mapping[str, str], method: str = "POST") -> tuple[int, ET.Element]:
    form = urllib.parse.urlencode({"Version": "2012-11-05", **members})
    url = aws.endpoint + path + (f"?{form}" if method == "GET" else "")
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
    request = AWSRequest(method, url, headers, form.encode() if method == "POST" else b"")
    SigV4Auth(Credentials(aws.access_key_id, aws.secret), "sqs", aws.region).add_auth(request)
    prepared = request.prepare()
    sent = urllib.request.Request(prepared.url, data=prepared.body or None, headers=dict(prepared.headers), method=method)
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, ET.fromstring(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, ET.fromstring(error.read())


def text(element: ET.Element, path: str) -> str | None:
    return element.findtext("/".join(SPACE + part for part in path.split("/")))


def test_query_form_sends_receives_and_deletes(aws: Account) -> None:
    _, made = call(
        aws,
        "/",
        {"Action": "CreateQueue", "QueueName": "old", "Attribute.1.Name": "VisibilityTimeout", "Attribute.1.Value": "40", "Tag.1.Key": "a", "Tag.1.Value": "b"},
    )  # fmt: skip
    url = text(made, "CreateQueueResult/QueueUrl")
    assert url == f"{aws.endpoint}/{aws.account}/old"
    path = urllib.parse.urlsplit(url).path
    assert aws.client("sqs").list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
    _, sent = call(
        aws,
        path,
        {
            "Action": "SendMessage",
            "MessageBody": "<hello & goodbye>",
            "MessageAttribute.1.Name": "kind",
            "MessageAttribute.1.Value.DataType": "String",
            "MessageAttribute.1.Value.StringValue": "x",
        },
    )
    assert text(sent, "SendMessageResult/MessageId")
    _, got = call(
        aws,
        path,
        {"Action": "ReceiveMessage", "AttributeName.1": "All", "MessageAttributeName.1": "All", "MaxNumberOfMessages": "10"},
        "GET",
    )
    message = "ReceiveMessageResult/Message"
    assert text(got, f"{message}/Body") == "<hello & goodbye>"
    assert text(got, f"{message}/MessageAttribute/Name") == "kind"
    assert text(got, f"{message}/MessageAttribute/Value/StringValue") == "x"
    assert text(got, f"{message}/Attribute/Name") == "SenderId"
    handle = text(got, f"{message}/ReceiptHandle") or ""
    status, batch = call(
        aws,
        "/",
        {
            "Action": "DeleteMessageBatch",
            "QueueUrl": url,
            "DeleteMessageBatchRequestEntry.1.Id": "a",
            "DeleteMessageBatchRequestEntry.1.ReceiptHandle": handle,
            "DeleteMessageBatchRequestEntry.2.Id": "b",
            "DeleteMessageBatchRequestEntry.2.ReceiptHandle": "nonsense",
        },
    )
    assert status == 200
    assert text(batch, "DeleteMessageBatchResult/DeleteMessageBatchResultEntry/Id") == "a"
    assert text(batch, "DeleteMessageBatchResult/BatchResultErrorEntry/Code") == "ReceiptHandleIsInvalid"


def test_query_form_tells_attributes_queues_and_errors(aws: Account) -> None:
    call(aws, "/", {"Action": "CreateQueue", "QueueName": "old"})
    _, listed = call(aws, "/", {"Action": "ListQueues"})
    assert text(listed, "ListQueuesResult/QueueUrl") == f"{aws.endpoint}/{aws.account}/old"
    _, told = call(aws, f"/{aws.account}/old", {"Action": "GetQueueAttributes", "AttributeName.1": "QueueArn"})
    assert text(told, "GetQueueAttributesResult/Attribute/Name") == "QueueArn"
    assert text(told, "GetQueueAttributesResult/Attribute/Value") == f"arn:aws:sqs:us-east-1:{aws.account}:old"
    status, error = call(aws, f"/{aws.account}/none", {"Action": "SendMessage", "MessageBody": "x"})
    assert (status, text(error, "Error/Code")) == (400, "AWS.SimpleQueueService.NonExistentQueue")
    assert text(error, "Error/Type") == "Sender"
