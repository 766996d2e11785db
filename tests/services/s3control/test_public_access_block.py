"""The account's four switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

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
