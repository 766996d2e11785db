"""Code repositories: names for Git repositories."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account

URL = "https://git.example.com/team/lesson.git"


def refusal(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return str(caught.value.response["Error"]["Message"])


def test_create_code_repository_keeps_what_it_is_told(aws: Account) -> None:
    sagemaker = aws.client("sagemaker")
    config = {"RepositoryUrl": URL, "Branch": "main"}
    arn = sagemaker.create_code_repository(CodeRepositoryName="Lesson", GitConfig=config, Tags=[{"Key": "a", "Value": "b"}])[
        "CodeRepositoryArn"
    ]
    assert arn == f"arn:aws:sagemaker:us-east-1:{aws.account}:code-repository/lesson"
    found = sagemaker.describe_code_repository(CodeRepositoryName="lesson")
    assert (found["CodeRepositoryName"], found["GitConfig"]) == ("Lesson", config)
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert "duplicate" in refusal(sagemaker.create_code_repository, CodeRepositoryName="lesson", GitConfig=config)


def test_describe_code_repository_knows_no_other_account(aws: Account, other_aws: Account) -> None:
    aws.client("sagemaker").create_code_repository(CodeRepositoryName="mine", GitConfig={"RepositoryUrl": URL})
    assert "Cannot find CodeRepository" in refusal(
        other_aws.client("sagemaker").describe_code_repository, CodeRepositoryName="mine"
    )


def test_list_code_repositories_pages(aws: Account) -> None:
    sagemaker = aws.client("sagemaker")
    for name in ("c", "a", "b"):
        sagemaker.create_code_repository(CodeRepositoryName=name, GitConfig={"RepositoryUrl": URL})
    pages = sagemaker.get_paginator("list_code_repositories").paginate(PaginationConfig={"PageSize": 2})
    assert [[entry["CodeRepositoryName"] for entry in page["CodeRepositorySummaryList"]] for page in pages] == [["a", "b"], ["c"]]


def test_update_code_repository_changes_the_secret(aws: Account) -> None:
    sagemaker = aws.client("sagemaker")
    sagemaker.create_code_repository(CodeRepositoryName="secret", GitConfig={"RepositoryUrl": URL})
    secret = f"arn:aws:secretsmanager:us-east-1:{aws.account}:secret:git-a1b2c3"
    sagemaker.update_code_repository(CodeRepositoryName="secret", GitConfig={"SecretArn": secret})
    found = sagemaker.describe_code_repository(CodeRepositoryName="secret")["GitConfig"]
    assert found == {"RepositoryUrl": URL, "SecretArn": secret}


def test_delete_code_repository_forgets_the_name(aws: Account) -> None:
    sagemaker = aws.client("sagemaker")
    sagemaker.create_code_repository(CodeRepositoryName="gone", GitConfig={"RepositoryUrl": URL})
    sagemaker.delete_code_repository(CodeRepositoryName="gone")
    assert "Cannot find" in refusal(sagemaker.describe_code_repository, CodeRepositoryName="gone")
    assert "Cannot find" in refusal(sagemaker.delete_code_repository, CodeRepositoryName="gone")


def test_create_notebook_instance_wants_its_repositories_there(aws: Account) -> None:
    role = aws.role("Notebook", "sagemaker.amazonaws.com")
    request = {"NotebookInstanceName": "n", "InstanceType": "ml.t3.medium", "RoleArn": role}
    message = refusal(aws.client("sagemaker").create_notebook_instance, **request, DefaultCodeRepository="nobody")
    assert "Cannot find CodeRepository" in message
    twice = {"DefaultCodeRepository": URL, "AdditionalCodeRepositories": ["https://other.example.com/x/lesson"]}
    assert "different names" in refusal(aws.client("sagemaker").create_notebook_instance, **request, **twice)
