"""Notebook instances as records: names, roles, networks, lists, tags, errors. Here no environment is installed, so none starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import WaiterError

from pilvi.core.ids import Ids
from pilvi.services.sagemaker.notebook_ticket import Place, Tickets, entry
from pilvi.testing.refusal import refusal
from pilvi.testing.server import Account, TestServer, eventually
from pilvi.testing.virtual_clock import VirtualClock

_numbers = itertools.count(720000000001)
TYPE = "ml.t2.medium"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server without environments."""
    folder = tmp_path_factory.mktemp("bare")
    with TestServer(folder / "data", runtimes_dir=folder / "runtimes") as running:
        yield running


@pytest.fixture
def aws(bare: TestServer) -> Account:
    return bare.account(str(next(_numbers)))


@pytest.fixture
def role(aws: Account) -> str:
    return aws.role("Notebooks", "sagemaker.amazonaws.com")


def create(aws: Account, name: str, role: str, **more: Any) -> Any:
    """Make one and wait until it has failed, as all do here."""
    sagemaker = aws.client("sagemaker")
    arn = sagemaker.create_notebook_instance(NotebookInstanceName=name, InstanceType=TYPE, RoleArn=role, **more)
    eventually(lambda: status(aws, name) == "Failed")
    return arn["NotebookInstanceArn"]


def status(aws: Account, name: str) -> str:
    return str(aws.client("sagemaker").describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"])


def test_create_notebook_instance_without_environment_fails_with_the_remedy(aws: Account, role: str) -> None:
    sagemaker = aws.client("sagemaker")
    arn = create(aws, "Titanic", role)
    assert arn == f"arn:aws:sagemaker:us-east-1:{aws.account}:notebook-instance/titanic"
    found = sagemaker.describe_notebook_instance(NotebookInstanceName="Titanic")
    assert "pilvi runtimes install notebook" in found["FailureReason"]
    expected = {
        "NotebookInstanceName": "Titanic",
        "NotebookInstanceArn": arn,
        "InstanceType": TYPE,
        "RoleArn": role,
        "VolumeSizeInGB": 5,
        "DirectInternetAccess": "Enabled",
        "RootAccess": "Enabled",
        "PlatformIdentifier": "notebook-al2-v3",
    }
    assert expected.items() <= found.items()
    assert {"SubnetId", "SecurityGroups", "Url"}.isdisjoint(found)
    assert (datetime.now(UTC) - found["CreationTime"]).total_seconds() < 60
    with pytest.raises(WaiterError, match="terminal failure state"):
        sagemaker.get_waiter("notebook_instance_in_service").wait(NotebookInstanceName="Titanic", WaiterConfig={"Delay": 1})
    sagemaker.start_notebook_instance(NotebookInstanceName="Titanic")
    eventually(lambda: status(aws, "Titanic") == "Failed")


def test_create_notebook_instance_refuses_a_taken_name(aws: Account, role: str) -> None:
    arn = create(aws, "One", role)
    code, message = refusal(
        aws.client("sagemaker").create_notebook_instance, NotebookInstanceName="one", InstanceType=TYPE, RoleArn=role
    )
    assert (code, message) == ("ValidationException", f"Cannot create a duplicate Notebook Instance ({arn})")


@pytest.mark.parametrize("name", ["under_score", "-first", "last-", "x" * 64])
def test_create_notebook_instance_refuses_names_aws_refuses(aws: Account, role: str, name: str) -> None:
    sagemaker = aws.client("sagemaker")
    code, message = refusal(sagemaker.create_notebook_instance, NotebookInstanceName=name, InstanceType=TYPE, RoleArn=role)
    assert code == "ValidationException"
    assert "notebookInstanceName" in message


def test_create_notebook_instance_refuses_roles_it_cannot_take(aws: Account, role: str) -> None:
    sagemaker = aws.client("sagemaker")
    stranger = aws.role("ForLambda", "lambda.amazonaws.com")
    for bad in (stranger, role + "Missing"):
        code, message = refusal(sagemaker.create_notebook_instance, NotebookInstanceName="n", InstanceType=TYPE, RoleArn=bad)
        assert code == "ValidationException"
        assert message.startswith(f"Could not assume role {bad}.")
    elsewhere = role.replace(aws.account, "999999999999")
    code, _ = refusal(sagemaker.create_notebook_instance, NotebookInstanceName="n", InstanceType=TYPE, RoleArn=elsewhere)
    assert code == "AccessDeniedException"


def test_create_notebook_instance_needs_pass_role(aws: Account, role: str) -> None:
    allowed = {"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}
    user = aws.user("scientist", {"Version": "2012-10-17", "Statement": [allowed]})
    params = {"NotebookInstanceName": "mine", "InstanceType": TYPE, "RoleArn": role}
    code, message = refusal(user.client("sagemaker").create_notebook_instance, **params)
    assert code == "AccessDeniedException"
    assert f"iam:PassRole on resource: {role}" in message


def test_create_notebook_instance_in_a_subnet(aws: Account, role: str) -> None:
    sagemaker, ec2 = aws.client("sagemaker"), aws.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][2]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    create(aws, "default-group", role, SubnetId=subnet)
    create(aws, "own-group", role, SubnetId=subnet, SecurityGroupIds=[group], DirectInternetAccess="Disabled")
    for name in ("default-group", "own-group"):
        found = sagemaker.describe_notebook_instance(NotebookInstanceName=name)
        assert (found["SubnetId"], found["SecurityGroups"]) == (subnet, [group])
    assert found["DirectInternetAccess"] == "Disabled"
    params = {"NotebookInstanceName": "n", "InstanceType": TYPE, "RoleArn": role}
    assert refusal(sagemaker.create_notebook_instance, **params, SubnetId="subnet-1") == (
        "ValidationException",
        "The subnet ID 'subnet-1' does not exist",
    )
    assert refusal(sagemaker.create_notebook_instance, **params, SubnetId=subnet, SecurityGroupIds=["sg-1"]) == (
        "ValidationException",
        "The security group 'sg-1' does not exist",
    )
    assert refusal(sagemaker.create_notebook_instance, **params, SecurityGroupIds=[group])[0] == "ValidationException"
    assert refusal(sagemaker.create_notebook_instance, **params, DirectInternetAccess="Disabled")[0] == "ValidationException"


@pytest.mark.parametrize(
    "member",
    [
        {"KmsKeyId": "key"}, {"AcceleratorTypes": ["ml.eia1.medium"]}, {"LifecycleConfigName": "missing"},
        {"PlatformIdentifier": "notebook-al2-v1"}, {"InstanceType": "ml.unknown"},
    ],
)  # fmt: skip
def test_create_notebook_instance_says_what_it_cannot(aws: Account, role: str, member: dict[str, Any]) -> None:
    params = {"NotebookInstanceName": "n", "InstanceType": TYPE, "RoleArn": role} | member
    assert refusal(aws.client("sagemaker").create_notebook_instance, **params)[0] == "ValidationException"
    assert aws.client("sagemaker").list_notebook_instances()["NotebookInstances"] == []


@pytest.mark.parametrize("operation", ["describe", "update", "start", "stop", "delete"])
def test_a_missing_instance_is_record_not_found(aws: Account, operation: str) -> None:
    call = getattr(aws.client("sagemaker"), f"{operation}_notebook_instance")
    assert refusal(call, NotebookInstanceName="none") == ("ValidationException", "RecordNotFound")


def test_create_presigned_notebook_instance_url_needs_a_running_one(aws: Account, role: str) -> None:
    sagemaker = aws.client("sagemaker")
    call = sagemaker.create_presigned_notebook_instance_url
    assert refusal(call, NotebookInstanceName="none") == ("ValidationException", "RecordNotFound")
    create(aws, "failed", role)
    code, message = refusal(call, NotebookInstanceName="failed")
    assert code == "ValidationException"
    assert message.startswith("Status (Failed) not in ([InService])")


def test_stop_notebook_instance_that_does_not_run_is_refused(aws: Account, role: str) -> None:
    arn = create(aws, "failed", role)
    assert refusal(aws.client("sagemaker").stop_notebook_instance, NotebookInstanceName="failed") == (
        "ValidationException",
        f"Status (Failed) not in ([InService]). Unable to transition to (Stopping) for Notebook Instance ({arn}).",
    )


def test_list_notebook_instances_filters_sorts_and_pages(aws: Account, role: str, bare: TestServer) -> None:
    sagemaker = aws.client("sagemaker")
    for name in ("delta", "alpha", "charlie", "bravo", "alpha-two"):
        create(aws, name, role)

    def names(**params: Any) -> list[str]:
        pages = sagemaker.get_paginator("list_notebook_instances").paginate(**params, PaginationConfig={"PageSize": 2})
        return [entry["NotebookInstanceName"] for page in pages for entry in page["NotebookInstances"]]

    assert names() == ["alpha", "alpha-two", "bravo", "charlie", "delta"]
    assert names(SortOrder="Descending")[0] == "delta"
    assert names(SortBy="CreationTime") == ["delta", "alpha", "charlie", "bravo", "alpha-two"]
    assert names(NameContains="alpha") == ["alpha", "alpha-two"]
    assert names(StatusEquals="InService") == []
    assert len(names(StatusEquals="Failed")) == 5
    assert names(CreationTimeAfter=datetime.now(UTC) + timedelta(days=1)) == []
    assert names(DefaultCodeRepositoryContains="git") == []
    assert refusal(sagemaker.list_notebook_instances, NextToken="foreign")[0] == "ValidationException"
    other = bare.account(str(next(_numbers)))
    assert other.client("sagemaker").list_notebook_instances()["NotebookInstances"] == []
    assert aws.client("sagemaker", "eu-west-1").list_notebook_instances()["NotebookInstances"] == []


def test_update_notebook_instance_changes_what_the_next_start_has(aws: Account, role: str) -> None:
    sagemaker = aws.client("sagemaker")
    create(aws, "changing", role)
    other = aws.role("Other", "sagemaker.amazonaws.com")
    sagemaker.update_notebook_instance(
        NotebookInstanceName="changing", InstanceType="ml.m5.xlarge", VolumeSizeInGB=20, RoleArn=other, RootAccess="Disabled"
    )
    found = sagemaker.describe_notebook_instance(NotebookInstanceName="changing")
    assert (found["InstanceType"], found["VolumeSizeInGB"], found["RoleArn"]) == ("ml.m5.xlarge", 20, other)
    assert found["RootAccess"] == "Disabled"
    assert found["LastModifiedTime"] > found["CreationTime"]
    call = sagemaker.update_notebook_instance
    assert "can only be increased" in refusal(call, NotebookInstanceName="changing", VolumeSizeInGB=10)[1]
    assert refusal(call, NotebookInstanceName="changing", LifecycleConfigName="x")[0] == "ValidationException"
    assert "Could not assume role" in refusal(call, NotebookInstanceName="changing", RoleArn=role + "Gone")[1]


def test_delete_notebook_instance_forgets_it_and_its_tags(aws: Account, role: str) -> None:
    sagemaker = aws.client("sagemaker")
    arn = create(aws, "short", role, Tags=[{"Key": "project", "Value": "titanic"}])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "project", "Value": "titanic"}]
    sagemaker.delete_notebook_instance(NotebookInstanceName="short")
    waiter = sagemaker.get_waiter("notebook_instance_deleted")
    waiter.wait(NotebookInstanceName="short", WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    assert refusal(sagemaker.list_tags, ResourceArn=arn)[0] == "ValidationException"
    create(aws, "short", role)
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == []


# -- tickets and entries --------------------------------------------------------------------------------------------------


def test_a_ticket_opens_once_and_for_five_minutes() -> None:
    clock, place = VirtualClock(), Place("1", "us-east-1", "lab")
    tickets = Tickets(clock, Ids())
    first, second, third = (tickets.issue(place, 1800) for _ in range(3))
    found = tickets.take(first)
    assert found is not None
    assert (found.place, found.session_s) == (place, 1800)
    assert tickets.take(first) is None
    clock.advance(299)
    assert tickets.take(second) is not None
    clock.advance(2)
    assert tickets.take(third) is None
    assert tickets.take("made-up") is None
    assert len(first) == 64


def test_an_entry_tells_its_end_under_the_key() -> None:
    assert entry("key", 1800.9).startswith("1800.")
    assert entry("key", 1800) != entry("other", 1800)
    assert entry("key", 1800).partition(".")[2] != entry("key", 1801).partition(".")[2]


def test_the_door_lets_strangers_stand(bare: TestServer) -> None:
    import requests

    base = f"{bare.endpoint}/_aws/notebook"
    assert requests.get(f"{base}/open/lab?authToken=guess", timeout=20).status_code == 403
    assert requests.get(f"{base}/credentials/guess", headers={"Authorization": "guess"}, timeout=20).status_code == 403
    assert requests.get(f"{base}/elsewhere", timeout=20).status_code == 404
    assert requests.post(f"{base}/open/lab?authToken=guess", timeout=20).status_code == 404
