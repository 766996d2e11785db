"""Lifecycle configurations: kept, listed, changed, deleted; and really run (where the environment is installed)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.refusal import refusal
from pilvi.testing.server import Account, eventually

NEEDS_ENVIRONMENT = pytest.mark.skipif(
    Environments(Config.runtimes_dir_default()).find("notebook") is None, reason="needs: pilvi runtimes install notebook"
)


def script(text: str) -> list[dict[str, str]]:
    return [{"Content": base64.b64encode(text.encode()).decode()}]


def create(aws: Account, name: str, **more: Any) -> str:
    found = aws.client("sagemaker").create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, **more)
    return str(found["NotebookInstanceLifecycleConfigArn"])


def test_a_configuration_is_kept_changed_and_forgotten(aws: Account) -> None:
    sagemaker = aws.client("sagemaker")
    arn = create(aws, "Setup", OnCreate=script("echo once"), Tags=[{"Key": "team", "Value": "data"}])
    assert arn == f"arn:aws:sagemaker:us-east-1:{aws.account}:notebook-instance-lifecycle-config/setup"
    named = {"NotebookInstanceLifecycleConfigName": "Setup"}
    found = sagemaker.describe_notebook_instance_lifecycle_config(**named)
    assert found["OnCreate"] == script("echo once")
    assert "OnStart" not in found
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "data"}]
    sagemaker.update_notebook_instance_lifecycle_config(**named, OnStart=script("echo each"))
    changed = sagemaker.describe_notebook_instance_lifecycle_config(**named)
    assert (changed["OnCreate"], changed["OnStart"]) == (script("echo once"), script("echo each"))
    assert changed["LastModifiedTime"] > changed["CreationTime"]
    sagemaker.delete_notebook_instance_lifecycle_config(**named)
    assert sagemaker.list_notebook_instance_lifecycle_configs()["NotebookInstanceLifecycleConfigs"] == []


def test_what_aws_refuses_is_refused(aws: Account) -> None:
    sagemaker = aws.client("sagemaker")
    arn = create(aws, "taken")
    assert refusal(sagemaker.create_notebook_instance_lifecycle_config, NotebookInstanceLifecycleConfigName="taken") == (
        "ValidationException",
        f"Unable to create Notebook Instance Lifecycle Config {arn}. (Details: Notebook Instance Lifecycle Config already exists.)",
    )
    for verb in ("describe", "update", "delete"):
        call = getattr(sagemaker, f"{verb}_notebook_instance_lifecycle_config")
        code, message = refusal(call, NotebookInstanceLifecycleConfigName="none")
        assert code == "ValidationException"
        assert message == (
            f"Unable to {verb} Notebook Instance Lifecycle Config '{arn.replace('taken', 'none')}'. "
            "(Details: Notebook Instance Lifecycle Config does not exist.)"
        )
    code, message = refusal(
        sagemaker.create_notebook_instance_lifecycle_config,
        NotebookInstanceLifecycleConfigName="odd",
        OnStart=[{"Content": "not base64!"}],
    )
    assert code == "ValidationException"


def test_configurations_are_listed_in_pages(aws: Account) -> None:
    for name in ("charlie", "alpha", "bravo"):
        create(aws, name)
    paginator = aws.client("sagemaker").get_paginator("list_notebook_instance_lifecycle_configs")

    def names(**params: Any) -> list[str]:
        pages = paginator.paginate(**params, PaginationConfig={"PageSize": 2})
        return [
            entry["NotebookInstanceLifecycleConfigName"] for page in pages for entry in page["NotebookInstanceLifecycleConfigs"]
        ]

    assert names() == ["alpha", "bravo", "charlie"]
    assert names(SortBy="CreationTime", SortOrder="Descending") == ["bravo", "alpha", "charlie"]
    assert names(NameContains="a", SortOrder="Descending") == ["charlie", "bravo", "alpha"]
    assert names(NameContains="lph") == ["alpha"]


@NEEDS_ENVIRONMENT
def test_scripts_run_before_jupyter_and_their_failure_is_told(aws: Account) -> None:
    sagemaker = aws.client("sagemaker")
    role = aws.role("Scripted", "sagemaker.amazonaws.com")
    once = "#!/bin/bash\nset -e\ncd /home/ec2-user/SageMaker\necho made >> made.txt\ncat made.txt\n"
    each = "source activate python3\npython -c 'import pandas; print(\"pandas is here\")'\ncat /home/ec2-user/SageMaker/made.txt\n"
    create(aws, "setup", OnCreate=script(once), OnStart=script(each))
    named = {"NotebookInstanceName": "scripted"}
    sagemaker.create_notebook_instance(**named, InstanceType="ml.t2.medium", RoleArn=role, LifecycleConfigName="setup")

    def settled(*expected: str) -> dict[str, Any]:
        passing = ("Pending", "Stopping")
        eventually(
            lambda: sagemaker.describe_notebook_instance(**named)["NotebookInstanceStatus"] not in passing,
            within_s=180,
            every_s=0.2,
        )
        found = dict(sagemaker.describe_notebook_instance(**named))
        assert found["NotebookInstanceStatus"] in expected, found.get("FailureReason")
        return found

    def said(hook: str) -> list[str]:
        stream = f"scripted/LifecycleConfig{hook}"
        group = "/aws/sagemaker/NotebookInstances"
        events = aws.client("logs").get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
        return [event["message"] for event in events]

    assert settled("InService")["NotebookInstanceLifecycleConfigName"] == "setup"
    assert said("OnCreate") == ["made"]
    assert said("OnStart") == ["pandas is here", "made"]
    listed = sagemaker.list_notebook_instances(NotebookInstanceLifecycleConfigNameContains="set")["NotebookInstances"]
    assert len(listed) == 1
    delete = sagemaker.delete_notebook_instance_lifecycle_config
    assert "it is associated with" in refusal(delete, NotebookInstanceLifecycleConfigName="setup")[1]

    sagemaker.stop_notebook_instance(**named)
    settled("Stopped")
    sagemaker.update_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName="setup", OnStart=script("wc -l < /home/ec2-user/SageMaker/made.txt; exit 3")
    )
    sagemaker.start_notebook_instance(**named)
    assert "(OnStart)" in settled("Failed")["FailureReason"]
    assert "failed with exit status 3" in settled("Failed")["FailureReason"]
    assert said("OnStart")[-1] == "1"
    sagemaker.update_notebook_instance(**named, DisassociateLifecycleConfig=True)
    delete(NotebookInstanceLifecycleConfigName="setup")
    sagemaker.start_notebook_instance(**named)
    settled("InService")
    sagemaker.stop_notebook_instance(**named)
    settled("Stopped")
