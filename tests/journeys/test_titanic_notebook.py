"""The Titanic project's notebook: by the AWS CLI as a person types it, and by boto3 in a subnet with a security group."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import requests
from botocore.exceptions import ClientError

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account

pytestmark = pytest.mark.skipif(
    Environments(Config.runtimes_dir_default()).find("notebook") is None, reason="needs: pilvi runtimes install notebook"
)
QUICKLY = {"Delay": 1, "MaxAttempts": 180}


def test_notebook_by_cli(aws: Account, tmp_path: Path) -> None:
    role = aws.role("SageMakerExecutionRole", "sagemaker.amazonaws.com")
    name = ["--notebook-instance-name", "TitanicNotebookCLI"]
    created = aws.cli(
        "sagemaker", "create-notebook-instance", *name, "--instance-type", "ml.t2.medium", "--role-arn", role, "--region", "us-east-1",
        cwd=tmp_path,
    )  # fmt: skip
    assert created.returncode == 0, created.stderr
    arn = json.loads(created.stdout)["NotebookInstanceArn"]
    assert arn == f"arn:aws:sagemaker:us-east-1:{aws.account}:notebook-instance/titanicnotebookcli"

    too_early = aws.cli("sagemaker", "start-notebook-instance", *name)
    assert too_early.returncode in (254, 255)
    assert "An error occurred (ValidationException) when calling the StartNotebookInstance operation" in too_early.stderr
    assert re.search(r"Status \((Pending|InService)\) not in \(\[Stopped, Failed\]\)", too_early.stderr)

    sagemaker = aws.client("sagemaker")
    sagemaker.get_waiter("notebook_instance_in_service").wait(NotebookInstanceName="TitanicNotebookCLI", WaiterConfig=QUICKLY)
    waited = aws.cli("sagemaker", "wait", "notebook-instance-in-service", *name)
    assert waited.returncode == 0, waited.stderr
    described = json.loads(aws.cli("sagemaker", "describe-notebook-instance", *name).stdout)
    assert described["NotebookInstanceStatus"] == "InService"

    url = json.loads(aws.cli("sagemaker", "create-presigned-notebook-instance-url", *name).stdout)["AuthorizedUrl"]
    page = requests.get(url, timeout=60)
    assert page.status_code == 200
    assert "<title>JupyterLab</title>" in page.text
    assert requests.get(url, timeout=60).status_code == 403

    assert aws.cli("sagemaker", "stop-notebook-instance", *name).returncode == 0
    sagemaker.get_waiter("notebook_instance_stopped").wait(NotebookInstanceName="TitanicNotebookCLI", WaiterConfig=QUICKLY)
    assert aws.cli("sagemaker", "delete-notebook-instance", *name).returncode == 0
    sagemaker.get_waiter("notebook_instance_deleted").wait(NotebookInstanceName="TitanicNotebookCLI", WaiterConfig=QUICKLY)
    assert "RecordNotFound" in aws.cli("sagemaker", "describe-notebook-instance", *name).stderr


def test_notebook_by_boto3_in_a_subnet(aws: Account) -> None:
    sagemaker, ec2 = aws.client("sagemaker"), aws.client("ec2")
    subnet = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])["Subnets"][0]
    group = ec2.describe_security_groups(
        Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
    )["SecurityGroups"][0]
    request = {
        "NotebookInstanceName": "TitanicNotebookSDK",
        "InstanceType": "ml.t2.medium",
        "RoleArn": aws.role("SageMakerExecutionRole", "sagemaker.amazonaws.com"),
        "SubnetId": subnet["SubnetId"],
        "SecurityGroupIds": [group["GroupId"]],
    }
    with pytest.raises(ClientError, match="The subnet ID 'subnet-0123456789' does not exist"):
        sagemaker.create_notebook_instance(**request | {"SubnetId": "subnet-0123456789"})
    sagemaker.create_notebook_instance(**request)
    sagemaker.get_waiter("notebook_instance_in_service").wait(NotebookInstanceName="TitanicNotebookSDK", WaiterConfig=QUICKLY)
    found = sagemaker.describe_notebook_instance(NotebookInstanceName="TitanicNotebookSDK")
    assert (found["SubnetId"], found["SecurityGroups"]) == (subnet["SubnetId"], [group["GroupId"]])
    listed = sagemaker.list_notebook_instances(StatusEquals="InService")["NotebookInstances"]
    assert [(entry["NotebookInstanceName"], entry["Url"]) for entry in listed] == [("TitanicNotebookSDK", found["Url"])]
    sagemaker.stop_notebook_instance(NotebookInstanceName="TitanicNotebookSDK")
    sagemaker.get_waiter("notebook_instance_stopped").wait(NotebookInstanceName="TitanicNotebookSDK", WaiterConfig=QUICKLY)
