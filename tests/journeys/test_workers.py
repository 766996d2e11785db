"""`pilvi up --workers N`: several processes, one cloud."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from pilvi.testing.server import Account, eventually
from pilvi.testing.up import Up


def processes_of(server: Up) -> list[int]:
    """The worker processes of a server."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"pilvi.app.workers" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_every_process_sees_what_was_acknowledged(up: Callable[..., Up]) -> None:
    server = up("--workers", "3")
    assert len(processes_of(server)) == 2
    server.root.client("s3").create_bucket(Bucket="shared-bucket")
    local = threading.local()

    def put_and_read(number: int) -> None:
        if not hasattr(local, "s3"):
            local.s3 = Account(server.endpoint, "123456789012", server.root.access_key_id, server.root.secret).client("s3")
        body = str(number).encode() * (200 if number % 3 else 60_000)
        for version in (body, body[::-1]):
            local.s3.put_object(Bucket="shared-bucket", Key=f"k{number}", Body=version)
            assert local.s3.get_object(Bucket="shared-bucket", Key=f"k{number}")["Body"].read() == version

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(put_and_read, range(60)))
    listed = server.root.client("s3").list_objects_v2(Bucket="shared-bucket")
    assert listed["KeyCount"] == 60
    assert server.stop() == 0


def test_a_changed_policy_binds_in_every_process(up: Callable[..., Up]) -> None:
    server = up("--workers", "3")
    server.root.client("s3").create_bucket(Bucket="guarded-bucket")
    server.root.client("s3").put_object(Bucket="guarded-bucket", Key="k", Body=b"x")
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    ada = server.root.user("ada", allow)
    for _ in range(6):
        ada.with_keys(ada.access_key_id, ada.secret).client("s3").get_object(Bucket="guarded-bucket", Key="k")
    server.root.client("iam").delete_user_policy(UserName="ada", PolicyName="p0")
    for _ in range(6):
        with pytest.raises(ClientError) as refused:
            ada.with_keys(ada.access_key_id, ada.secret).client("s3").get_object(Bucket="guarded-bucket", Key="k")
        assert refused.value.response["Error"]["Code"] == "AccessDenied"


def test_workers_end_with_the_first_process_however_it_ends(up: Callable[..., Up]) -> None:
    server = up("--workers", "2")
    (worker,) = processes_of(server)
    server.kill()
    eventually(lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2])


def test_object_lambda_meets_its_function_from_every_process(up: Callable[..., Up]) -> None:
    """Requests reach any process; the function's answer finds them, because all of them go to the first one."""
    server = up("--workers", "3")
    root, bundle = server.root, str(server.data_dir / "clients" / "ca-bundle.pem")
    named = Config(proxies={"https": server.endpoint}, retries={"total_max_attempts": 1})
    control = root.session.client("s3control", verify=bundle, config=named)
    root.client("s3").create_bucket(Bucket="seen-bucket")
    root.client("s3").put_object(Bucket="seen-bucket", Key="k", Body=b"quiet")
    may = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3-object-lambda:*", "Resource": "*"}]}
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.py", UPPER)
    function = root.client("lambda").create_function(
        FunctionName="upper",
        Runtime="python3.11",
        Handler="index.handler",
        Role=root.role("upper", "lambda.amazonaws.com", may),
        Timeout=30,
        Code={"ZipFile": package.getvalue()},
    )["FunctionArn"]
    behind = control.create_access_point(AccountId=root.account, Name="behind", Bucket="seen-bucket")["AccessPointArn"]
    entry = {"Actions": ["GetObject"], "ContentTransformation": {"AwsLambda": {"FunctionArn": function}}}
    alias = control.create_access_point_for_object_lambda(
        AccountId=root.account,
        Name="lens",
        Configuration={"SupportingAccessPoint": behind, "TransformationConfigurations": [entry]},
    )["Alias"]["Value"]
    control.close()
    for _ in range(9):
        client = root.with_keys(root.access_key_id, root.secret).client("s3")
        assert client.get_object(Bucket=alias, Key="k")["Body"].read() == b"QUIET"
        assert client.head_object(Bucket=alias, Key="k")["ContentLength"] == 5
        client.close()


UPPER = """
import urllib.request
import boto3

def handler(event, context):
    given = event["getObjectContext"]
    body = urllib.request.urlopen(given["inputS3Url"]).read().upper()
    boto3.client("s3").write_get_object_response(RequestRoute=given["outputRoute"], RequestToken=given["outputToken"], Body=body)
"""


def test_a_long_poll_whose_client_vanishes_hides_nothing_in_any_process(up: Callable[..., Up]) -> None:
    server = up("--workers", "3")
    sqs = server.root.client("sqs")
    url = sqs.create_queue(QueueName="polled")["QueueUrl"]
    for _ in range(8):  # some of them over a worker
        hasty = server.root.client("sqs", config=Config(retries={"total_max_attempts": 1}, read_timeout=0.3))
        with pytest.raises(ReadTimeoutError):
            hasty.receive_message(QueueUrl=url, WaitTimeSeconds=20)
        hasty.close()
    sent = [sqs.send_message(QueueUrl=url, MessageBody=str(number))["MessageId"] for number in range(8)]
    found: list[str] = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"]).get("Messages"):
        assert {message["Attributes"]["ApproximateReceiveCount"] for message in messages} == {"1"}
        found += [message["MessageId"] for message in messages]
    assert sorted(found) == sorted(sent)
