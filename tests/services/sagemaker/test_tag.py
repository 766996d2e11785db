"""Tags of SageMaker resources."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account

_numbers = itertools.count()


@pytest.fixture
def arn(lab: Any) -> str:
    return str(lab.start(f"tagged-{next(_numbers)}", "exit 0", Tags=[{"Key": "team", "Value": "a"}, {"Key": "empty", "Value": ""}]))


def code_of(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return str(caught.value.response["Error"]["Code"])


def test_list_tags_gives_those_of_creation(lab: Any, arn: str) -> None:
    assert lab.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}, {"Key": "empty", "Value": ""}]


def test_add_tags_replaces_and_adds(lab: Any, arn: str) -> None:
    tags = lab.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "b"}, {"Key": "new", "Value": "1"}])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "b", "empty": "", "new": "1"}
    assert lab.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags


def test_add_tags_of_many_at_once_are_all_kept(lab: Any, arn: str) -> None:
    def add(number: int) -> None:
        lab.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": f"k{number}", "Value": ""}])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert {f"k{number}" for number in range(24)} <= {tag["Key"] for tag in lab.sagemaker.list_tags(ResourceArn=arn)["Tags"]}


def test_add_tags_refuses_reserved_and_too_many(lab: Any, arn: str) -> None:
    assert code_of(lab.sagemaker.add_tags, ResourceArn=arn, Tags=[{"Key": "aws:x", "Value": "1"}]) == "ValidationException"
    many = [{"Key": f"k{number}", "Value": ""} for number in range(49)]
    assert code_of(lab.sagemaker.add_tags, ResourceArn=arn, Tags=many) == "ValidationException"


def test_delete_tags_passes_over_unknown_ones(lab: Any, arn: str) -> None:
    lab.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team", "none"])
    assert lab.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "empty", "Value": ""}]


def test_list_tags_refuses_what_is_not_there(lab: Any, other_aws: Account, arn: str) -> None:
    assert code_of(lab.sagemaker.list_tags, ResourceArn=arn.replace("tagged", "none")) == "ValidationException"
    assert code_of(other_aws.client("sagemaker").list_tags, ResourceArn=arn) == "ValidationException"
    assert code_of(lab.sagemaker.list_tags, ResourceArn=arn, NextToken="strange") == "ValidationException"
