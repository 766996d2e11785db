"""What writes tell whoever listens: AWS's names and all that its event records are made of; nothing where nobody listens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.events.embedded import queue_of
from pilvi.services.s3.catalog import LISTENERS
from pilvi.testing.server import Account, TestServer

LISTENER = "nobody/there"
"""A consumer that is not built: its facts stay where tests can read them."""


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server in which buckets with the setting `Heard` have a listener."""
    LISTENERS["Heard"] = LISTENER
    with TestServer(tmp_path_factory.mktemp("cloud")) as server:
        yield server
    del LISTENERS["Heard"]


@pytest.fixture
def account(heard: TestServer) -> Account:
    return heard.account("330000000001")


def listened(server: TestServer, account: Account, name: str, versioned: bool) -> Any:
    from pilvi.services.s3.bucket import change_bucket

    s3 = account.client("s3")
    s3.create_bucket(Bucket=name)
    if versioned:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    principal = server.cloud.identities.root(account.account)
    change_bucket(server.cloud.context(principal, "s3"), name, Heard=True)
    return s3


def facts(server: TestServer, name: str) -> list[dict[str, Any]]:
    rows = server.cloud.store.scan(queue_of(LISTENER), prefix=f"{name}\0", limit=1000)
    return [row.value["fact"] for row in rows]


def test_each_write_tells_its_name_in_order(heard: TestServer, account: Account) -> None:
    s3 = listened(heard, account, "names", versioned=True)
    put = s3.put_object(Bucket="names", Key="k", Body=b"hello")
    s3.copy_object(Bucket="names", Key="k", CopySource="names/k", MetadataDirective="REPLACE")
    upload = s3.create_multipart_upload(Bucket="names", Key="k")["UploadId"]
    part = s3.upload_part(Bucket="names", Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket="names", Key="k", UploadId=upload, MultipartUpload=parts)
    s3.put_object_tagging(Bucket="names", Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_object_tagging(Bucket="names", Key="k")
    s3.delete_object(Bucket="names", Key="k")
    s3.delete_object(Bucket="names", Key="k", VersionId=put["VersionId"])
    told = facts(heard, "names")
    assert [fact["eventName"] for fact in told] == [
        "ObjectCreated:Put",
        "ObjectCreated:Copy",
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectTagging:Put",
        "ObjectTagging:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "ObjectRemoved:Delete",
    ]
    first = told[0]
    assert (first["bucket"], first["key"], first["size"], first["eTag"]) == ("names", "k", 5, put["ETag"].strip('"'))
    assert (first["versionId"], first["region"]) == (put["VersionId"], "us-east-1")
    assert (first["requester"], first["account"]) == (f"AWS:{account.account}", account.account)
    assert first["sourceIPAddress"] == "127.0.0.1"
    assert first["requestId"] == put["ResponseMetadata"]["RequestId"]
    order = [fact["sequencer"] for fact in told[:3]]
    assert order == sorted(set(order))
    assert told[-1]["versionId"] == put["VersionId"]


def test_a_refused_write_tells_nothing(heard: TestServer, account: Account) -> None:
    s3 = listened(heard, account, "refused", versioned=False)
    s3.put_object(Bucket="refused", Key="k", Body=b"x")
    with pytest.raises(s3.exceptions.ClientError):
        s3.put_object(Bucket="refused", Key="k", Body=b"y", IfNoneMatch="*")
    s3.delete_object(Bucket="refused", Key="not-there")
    s3.delete_object(Bucket="refused", Key="k")
    assert [fact["eventName"] for fact in facts(heard, "refused")] == ["ObjectCreated:Put", "ObjectRemoved:Delete"]
    assert "versionId" not in facts(heard, "refused")[0]


def test_a_bucket_without_listeners_tells_nothing(heard: TestServer, account: Account) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket="silent")
    s3.put_object(Bucket="silent", Key="k", Body=b"x")
    assert facts(heard, "silent") == []


def test_facts_survive_a_restart(heard: TestServer, tmp_path: Path) -> None:
    with TestServer(tmp_path) as server:
        s3 = listened(server, server.account("330000000002"), "kept", versioned=False)
        s3.put_object(Bucket="kept", Key="k", Body=b"x")
    with TestServer(tmp_path) as server:
        assert [fact["key"] for fact in facts(server, "kept")] == ["k"]
