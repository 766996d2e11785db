"""Two servers on one PostgreSQL and one store of blobs serve the same buckets: SeaweedFS's, and a shared folder's."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from botocore.config import Config

from pilvi.testing.peers import Missing, Postgres, SeaweedFS
from pilvi.testing.server import eventually
from pilvi.testing.up import Up

PATIENT = Config(retries={"total_max_attempts": 3}, proxies={})
Start = Callable[[str], Up]


@pytest.fixture(scope="module", params=["folder", "seaweedfs"])
def start(request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts one more server on the stores."""
    folder = tmp_path_factory.mktemp("servers")
    cluster = None
    if request.param == "folder":
        blobs = ["--blobs", str(folder / "blobs")]
    else:
        try:
            cluster = SeaweedFS(folder / "seaweedfs")
        except Missing as error:
            pytest.skip(str(error))
        blobs = ["--blobs", "s3://pilvi/objects", "--blobs-endpoint", cluster.endpoint]
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("PILVI_BLOBS_ACCESS_KEY_ID", "any")
        environ.setenv("PILVI_BLOBS_SECRET_ACCESS_KEY", "any")
        started = []

        def one_more(name: str) -> Up:
            up = Up(
                folder / name, "--records", postgres.url_of(f"pilvi_{request.param}"), "--root-key", str(folder / "keys"), *blobs
            )
            started.append(up)
            return up

        postgres.make_database(f"pilvi_{request.param}")
        yield one_more
        for up in started:
            up.stop()
    if cluster is not None:
        cluster.stop()


@pytest.fixture(scope="module")
def two(start: Start) -> tuple[Up, Up]:
    return start("one"), start("two")


@pytest.fixture
def s3(two: tuple[Up, Up]) -> tuple[Any, Any]:
    first, second = (up.root.client("s3", config=PATIENT) for up in two)
    return first, second


def data_of(size: int, seed: object = "") -> bytes:
    return (hashlib.sha256(str(seed).encode()).digest() * (size // 32 + 1))[:size]


def test_what_one_writes_the_other_reads(s3: tuple[Any, Any]) -> None:
    first, second = s3
    first.create_bucket(Bucket="shared")
    for size in (0, 10, 100_000, 9_000_000):
        first.put_object(Bucket="shared", Key=f"k{size}", Body=data_of(size), Metadata={"size": str(size)})
        found = second.get_object(Bucket="shared", Key=f"k{size}")
        assert found["Body"].read() == data_of(size)
        assert found["Metadata"] == {"size": str(size)}
        second.put_object(Bucket="shared", Key=f"k{size}", Body=data_of(size, "again"))
        assert first.get_object(Bucket="shared", Key=f"k{size}")["Body"].read() == data_of(size, "again")
    second.delete_object(Bucket="shared", Key="k10")
    for client in s3:
        assert [entry["Key"] for entry in client.list_objects_v2(Bucket="shared")["Contents"]] == ["k0", "k100000", "k9000000"]
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket="shared", Key="k10")


def test_settings_of_a_bucket_are_known_everywhere(s3: tuple[Any, Any]) -> None:
    first, second = s3
    first.create_bucket(Bucket="settings")
    second.put_bucket_versioning(Bucket="settings", VersioningConfiguration={"Status": "Enabled"})
    eventually(lambda: first.get_bucket_versioning(Bucket="settings").get("Status") == "Enabled")
    versions = [client.put_object(Bucket="settings", Key="k", Body=b"x")["VersionId"] for client in (*s3, *s3)]
    listed = second.list_object_versions(Bucket="settings")["Versions"]
    assert [entry["VersionId"] for entry in listed] == versions[::-1]


def test_writers_of_one_key_never_mix(s3: tuple[Any, Any]) -> None:
    s3[0].create_bucket(Bucket="race")
    wrote: list[str] = []
    failures: list[BaseException] = []

    def write(client: Any, worker: int) -> None:
        try:
            for number in range(12):
                body = data_of(40_000 + worker * 1000, f"{worker} {number}")
                wrote.append(hashlib.md5(body).hexdigest())
                client.put_object(Bucket="race", Key="one", Body=body)
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            failures.append(error)

    def read(client: Any) -> None:
        try:
            for _ in range(40):
                try:
                    found = client.get_object(Bucket="race", Key="one")
                    body = found["Body"].read()
                except client.exceptions.NoSuchKey:
                    continue
                assert found["ETag"].strip('"') == hashlib.md5(body).hexdigest()
                assert found["ETag"].strip('"') in wrote
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=write, args=(s3[worker % 2], worker)) for worker in range(4)]
    threads += [threading.Thread(target=read, args=(client,)) for client in s3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert s3[0].head_object(Bucket="race", Key="one")["ETag"] == s3[1].head_object(Bucket="race", Key="one")["ETag"]


def test_only_one_conditional_write_wins(s3: tuple[Any, Any]) -> None:
    s3[0].create_bucket(Bucket="once")
    for number in range(10):
        won: list[int] = []
        lost: list[str] = []

        def write(worker: int, number: int = number, won: list[int] = won, lost: list[str] = lost) -> None:
            try:
                s3[worker % 2].put_object(Bucket="once", Key=f"k{number}", Body=b"%d" % worker, IfNoneMatch="*")
                won.append(worker)
            except botocore.exceptions.ClientError as error:
                lost.append(error.response["Error"]["Code"])

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert set(lost) <= {"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted"}
        assert s3[0].get_object(Bucket="once", Key=f"k{number}")["Body"].read() == b"%d" % won[0]


def test_an_upload_may_come_through_both(s3: tuple[Any, Any]) -> None:
    s3[0].create_bucket(Bucket="parts")
    target = {"Bucket": "parts", "Key": "k"}
    upload = target | {"UploadId": s3[0].create_multipart_upload(**target)["UploadId"]}
    bodies = [data_of(5 << 20, number) for number in range(4)] + [data_of(10_000, "last")]
    parts = [
        {"PartNumber": number, "ETag": s3[number % 2].upload_part(**upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    assert len(s3[1].list_parts(**upload)["Parts"]) == 5
    s3[1].complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    for client in s3:
        assert client.get_object(**target)["Body"].read() == b"".join(bodies)


def test_a_reader_is_not_disturbed_by_the_other_server(s3: tuple[Any, Any]) -> None:
    s3[0].create_bucket(Bucket="held")
    old = data_of(60_000_000, "old")
    s3[0].put_object(Bucket="held", Key="k", Body=old)
    body = s3[0].get_object(Bucket="held", Key="k")["Body"]
    start = body.read(100_000)
    s3[1].put_object(Bucket="held", Key="k", Body=b"new")
    s3[1].delete_object(Bucket="held", Key="k")
    assert start + body.read() == old


def test_one_server_leads_and_the_others_pass_on(two: tuple[Up, Up]) -> None:
    first, second = two
    for up in two:
        up.root.client("logs").create_log_group(logGroupName=f"by-{up.data_dir.name}")
    for up in two:
        groups = up.root.client("logs").describe_log_groups()["logGroups"]
        assert [group["logGroupName"] for group in groups] == ["by-one", "by-two"]
    assert first.root.client("sts").get_caller_identity() != {}
    assert second.root.client("iam").get_user() != {}


def test_what_either_server_records_is_delivered_by_the_one_that_leads(two: tuple[Up, Up]) -> None:
    """The server that does not lead records first: it must not deliver to queues, which live in the leader's memory."""
    first, second = two
    sqs = second.root.client("sqs")
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    sqs.receive_message(QueueUrl=url)
    s3 = second.root.client("s3", config=PATIENT)
    s3.create_bucket(Bucket="telling")
    configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(
        Bucket="telling", NotificationConfiguration=configuration, SkipDestinationValidation=True
    )
    for up, key in ((second, "a"), (first, "b"), (second, "c")):
        up.root.client("s3", config=PATIENT).put_object(Bucket="telling", Key=key, Body=b"x")
    told: set[str] = set()

    def all_told() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            told.update(record["s3"]["object"]["key"] for record in json.loads(message["Body"]).get("Records", []))
        return told == {"a", "b", "c"}

    eventually(all_told)


def test_another_server_goes_on_when_one_is_killed(start: Start, two: tuple[Up, Up]) -> None:
    third = start("three")
    client = third.root.client("s3", config=PATIENT)
    client.create_bucket(Bucket="left")
    client.put_object(Bucket="left", Key="k", Body=data_of(200_000))
    third.kill()
    fourth = start("four")
    for up in (*two, fourth):
        assert up.root.client("s3", config=PATIENT).get_object(Bucket="left", Key="k")["Body"].read() == data_of(200_000)


def test_other_master_keys_are_refused(start: Start, two: tuple[Up, Up], tmp_path: Path) -> None:
    options = two[0].process.args
    assert isinstance(options, list)
    from pilvi.app.stores import open_stores
    from pilvi.core.config import Config as Settings
    from pilvi.core.errors import Unavailable

    values = {name: options[options.index(f"--{name}") + 1] for name in ("records", "blobs")}
    endpoint = options[options.index("--blobs-endpoint") + 1] if "--blobs-endpoint" in options else ""
    settings = Settings(data_dir=tmp_path, root_key=str(tmp_path / "other"), blobs_endpoint=endpoint, **values)
    with pytest.raises(Unavailable, match="other master keys"):
        open_stores(settings, is_first=True)
    assert os.path.exists(tmp_path / "other")
