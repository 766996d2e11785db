"""The account's four switches."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account

ALL_ON = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}


def refused(call: Any, **params: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    answer = caught.value.response
    return {**answer["Error"], "Status": answer["ResponseMetadata"]["HTTPStatusCode"]}


def test_public_access_block_is_put_got_and_deleted(aws: Account, reach: Callable[..., Any]) -> None:
    control = reach(aws, "s3control")
    error = refused(control.get_public_access_block, AccountId=aws.account)
    assert (error["Code"], error["Status"]) == ("NoSuchPublicAccessBlockConfiguration", 404)
    control.put_public_access_block(AccountId=aws.account, PublicAccessBlockConfiguration=ALL_ON)
    assert control.get_public_access_block(AccountId=aws.account)["PublicAccessBlockConfiguration"] == ALL_ON
    control.put_public_access_block(AccountId=aws.account, PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    kept = control.get_public_access_block(AccountId=aws.account)["PublicAccessBlockConfiguration"]
    assert kept == {**dict.fromkeys(ALL_ON, False), "BlockPublicAcls": True}
    control.delete_public_access_block(AccountId=aws.account)
    control.delete_public_access_block(AccountId=aws.account)
    assert refused(control.get_public_access_block, AccountId=aws.account)["Status"] == 404


def test_public_access_block_of_another_account_is_denied(aws: Account, other_aws: Account, reach: Callable[..., Any]) -> None:
    control = reach(aws, "s3control")
    for call in (control.get_public_access_block, control.delete_public_access_block):
        assert refused(call, AccountId=other_aws.account)["Code"] == "AccessDenied"
    error = refused(control.put_public_access_block, AccountId=other_aws.account, PublicAccessBlockConfiguration=ALL_ON)
    assert (error["Code"], error["Status"]) == ("AccessDenied", 403)


def test_public_access_block_needs_the_account_actions(aws: Account, reach: Callable[..., Any]) -> None:
    reads = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetAccountPublicAccessBlock", "Resource": "*"}],
    }
    user = reach(aws.user("reader", reads), "s3control")
    error = refused(user.put_public_access_block, AccountId=aws.account, PublicAccessBlockConfiguration=ALL_ON)
    assert "s3:PutAccountPublicAccessBlock" in error["Message"]
    assert refused(user.get_public_access_block, AccountId=aws.account)["Code"] == "NoSuchPublicAccessBlockConfiguration"


def test_absent_operations_say_so(aws: Account, reach: Callable[..., Any]) -> None:
    error = refused(reach(aws, "s3control").list_multi_region_access_points, AccountId=aws.account)
    assert (error["Code"], error["Status"]) == ("NotImplemented", 501)


# -- what the switches do to buckets --------------------------------------------------------------------------------------

OFF = dict.fromkeys(ALL_ON, False)


def status(account: Account, path: str) -> int:
    return int(URLLib3Session().send(AWSRequest("GET", f"{account.endpoint}{path}").prepare()).status_code)


def test_a_public_bucket_is_closed_the_moment_the_account_switch_is_on(aws: Account, reach: Callable[..., Any]) -> None:
    control, s3, bucket = reach(aws, "s3control"), aws.client("s3"), f"public-{aws.account}"
    s3.create_bucket(Bucket=bucket, ObjectOwnership="ObjectWriter")
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="by-policy", Body=b"1")
    s3.put_object(Bucket=bucket, Key="by-list", Body=b"1", ACL="public-read")
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/by-policy"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)

    def seen(**switches: bool) -> tuple[int, int]:
        control.put_public_access_block(AccountId=aws.account, PublicAccessBlockConfiguration={**OFF, **switches})
        return status(aws, f"/{bucket}/by-policy"), status(aws, f"/{bucket}/by-list")

    assert seen() == (200, 200)
    assert seen(RestrictPublicBuckets=True) == (403, 200)
    assert seen(IgnorePublicAcls=True) == (200, 403)
    assert seen(**ALL_ON) == (403, 403)
    assert refused(s3.put_bucket_policy, Bucket=bucket, Policy=policy)["Code"] == "AccessDenied"
    assert refused(s3.put_object_acl, Bucket=bucket, Key="by-policy", ACL="public-read")["Code"] == "AccessDenied"
    assert s3.get_object(Bucket=bucket, Key="by-list")["Body"].read() == b"1"
    control.delete_public_access_block(AccountId=aws.account)
    assert (status(aws, f"/{bucket}/by-policy"), status(aws, f"/{bucket}/by-list")) == (200, 200)
