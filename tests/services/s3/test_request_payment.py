"""Requester pays: who must say that they pay, what they are told, and on whose bill it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pilvi.metering import lines_between
from pilvi.testing.server import Account, TestServer
from tests.services.s3.conftest import refused


@pytest.fixture
def paid(s3: Any, bucket: str, other_aws: Account) -> str:
    """A bucket that the other account may use at its own expense."""
    everyone = {"AWS": f"arn:aws:iam::{other_aws.account}:root"}
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
    statements = [{**statement, "Principal": everyone}, {**statement, "Principal": "*", "Action": "s3:GetObject"}]
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"})
    return bucket


def test_put_bucket_request_payment_is_given_back(s3: Any, bucket: str) -> None:
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"})
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "Requester"
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    error = refused(s3.put_bucket_request_payment, Bucket=bucket, RequestPaymentConfiguration={"Payer": "Nobody"})
    assert (error["Code"], error["Status"]) == ("MalformedXML", 400)


def test_others_must_say_that_they_pay(s3: Any, other_aws: Account, paid: str) -> None:
    theirs = other_aws.client("s3")
    for call, more in ((theirs.get_object, {"Key": "k"}), (theirs.put_object, {"Key": "n"}), (theirs.list_objects_v2, {})):
        assert refused(call, Bucket=paid, **more)["Code"] == "AccessDenied"
        assert call(Bucket=paid, RequestPayer="requester", **more)["RequestCharged"] == "requester"
    assert theirs.head_object(Bucket=paid, Key="k", RequestPayer="requester")["RequestCharged"] == "requester"
    assert refused(theirs.head_object, Bucket=paid, Key="k")["Status"] == 403


def test_copies_out_of_such_a_bucket_are_paid(s3: Any, other_aws: Account, paid: str) -> None:
    theirs = other_aws.client("s3")
    theirs.create_bucket(Bucket=f"copies-{paid}")
    source = {"Bucket": paid, "Key": "k"}
    assert refused(theirs.copy_object, Bucket=f"copies-{paid}", Key="k", CopySource=source)["Code"] == "AccessDenied"
    theirs.copy_object(Bucket=f"copies-{paid}", Key="k", CopySource=source, RequestPayer="requester")


def test_the_owner_needs_not_say_anything(aws: Account, s3: Any, paid: str) -> None:
    assert "RequestCharged" not in s3.get_object(Bucket=paid, Key="k")
    assert "RequestCharged" not in s3.get_object(Bucket=paid, Key="k", RequestPayer="requester")
    s3.put_bucket_request_payment(Bucket=paid, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    assert "RequestCharged" not in s3.get_object(Bucket=paid, Key="k", RequestPayer="requester")


def test_nobody_in_particular_cannot_pay(raw: Callable[..., Any], paid: str) -> None:
    answer = raw("GET", f"/{paid}/k", signed=False, headers={"x-amz-request-payer": "requester"})
    assert (answer.status_code, b"<Code>AccessDenied</Code>" in answer.content) == (403, True)


def test_presigned_urls_say_it_too(other_aws: Account, raw: Callable[..., Any], paid: str) -> None:
    theirs = other_aws.client("s3")
    parameters = {"Bucket": paid, "Key": "k"}
    for more, status in (({}, 403), ({"RequestPayer": "requester"}, 200)):
        url = theirs.generate_presigned_url("get_object", parameters | more)
        answer = raw("GET", url.removeprefix(other_aws.endpoint), signed=False)
        assert answer.status_code == status
    assert answer.headers["x-amz-request-charged"] == "requester"


def test_the_requester_is_billed(server: TestServer, aws: Account, other_aws: Account, paid: str) -> None:
    theirs = other_aws.client("s3")
    for _ in range(3):
        theirs.get_object(Bucket=paid, Key="k", RequestPayer="requester")["Body"].read()
    theirs.put_object(Bucket=paid, Key="n", Body=b"x", RequestPayer="requester")
    theirs.delete_object(Bucket=paid, Key="n", RequestPayer="requester")
    now = server.cloud.clock.now()
    hour = timedelta(hours=1)
    found = {line.meter.usage: line for line in lines_between(server.cloud.store, other_aws.account, now - hour, now + hour)}
    assert {usage: line.quantity for usage, line in found.items()} == {
        "Requests-Tier1": 1,
        "Requests-Tier2": 3,
        "DataTransfer-Out-Bytes": 15,
    }
    assert found["Requests-Tier2"].meter.resource == f"arn:aws:s3:::{paid}"
    assert not list(lines_between(server.cloud.store, aws.account, now - hour, now + hour))
