"""Unmodified clients of every protocol understand what the server answers, even where it only says what it lacks."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account


@pytest.mark.parametrize(
    ("service", "function", "params"),
    [
        ("cloudformation", "list_stacks", {}),
        ("ec2", "describe_instances", {}),
        ("support", "describe_cases", {}),
        ("batch", "describe_job_queues", {}),
        ("cloudfront", "list_distributions", {}),
        ("textract", "list_adapters", {}),
    ],
)
def test_clients_are_told_what_is_not_built(aws: Account, service: str, function: str, params: dict[str, Any]) -> None:
    client = aws.client(service)
    with pytest.raises(ClientError) as caught:
        getattr(client, function)(**params)
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("NotImplemented", 501)
    assert client.meta.method_to_api_mapping[function] in answer["Error"]["Message"]
    assert answer["ResponseMetadata"]["RequestId"]


def test_clients_are_told_what_breaks_the_model(aws: Account) -> None:
    with pytest.raises(ClientError) as caught:
        aws.client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/x", RoleSessionName="a b")
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationError"
    assert (
        "Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression" in error["Message"]
    )
