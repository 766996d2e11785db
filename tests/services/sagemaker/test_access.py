"""What policies may ask of SageMaker requests: resources, tags, and condition keys of instance types, network and isolation."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.sagemaker.conditions import asked_for
from pilvi.testing.server import Account, eventually


def statement(action: str, effect: str = "Allow", resource: str = "*", **condition: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **({"Condition": condition} if condition else {})}


def user(aws: Account, name: str, *statements: dict[str, Any]) -> Any:
    """Somebody's client, with the right to pass roles."""
    policy = {"Version": "2012-10-17", "Statement": [statement("iam:PassRole"), *statements]}
    return aws.user(name, policy).client("sagemaker")


def is_denied(call: Any, **request: Any) -> bool:
    try:
        call(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDeniedException":
            return True
        raise
    return False


def test_create_training_job_tells_its_instance_types(lab: Any) -> None:
    small = {"ForAllValues:StringLike": {"sagemaker:InstanceTypes": ["ml.m5.*"]}}
    client = user(lab.aws, "thrifty", statement("sagemaker:CreateTrainingJob", **small))
    request = lab.request("cheap", "exit 0")
    big = {**request, "TrainingJobName": "dear", "ResourceConfig": {**request["ResourceConfig"], "InstanceType": "ml.p3.2xlarge"}}
    fitting = {**request, "ResourceConfig": {**request["ResourceConfig"], "InstanceType": "ml.m5.large"}}
    assert is_denied(client.create_training_job, **big)
    assert not is_denied(client.create_training_job, **fitting)


def test_create_training_job_tells_isolation_and_network(lab: Any) -> None:
    open_jobs = statement("sagemaker:CreateTrainingJob", "Deny", Bool={"sagemaker:NetworkIsolation": "false"})
    client = user(lab.aws, "careful", statement("sagemaker:*"), open_jobs)
    assert is_denied(client.create_training_job, **lab.request("open", "exit 0"))
    assert not is_denied(client.create_training_job, **lab.request("closed", "exit 0", EnableNetworkIsolation=True))
    no_network = statement("sagemaker:CreateTrainingJob", "Deny", Null={"sagemaker:VpcSubnets": "true"})
    client = user(lab.aws, "networked", statement("sagemaker:*"), no_network)
    network = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert is_denied(client.create_training_job, **lab.request("outside", "exit 0"))
    assert not is_denied(client.create_training_job, **lab.request("inside", "exit 0", VpcConfig=network))


@pytest.mark.parametrize("prefix", ["aws", "sagemaker"])
def test_stop_training_job_may_depend_on_the_jobs_tags(lab: Any, prefix: str) -> None:
    own = statement("sagemaker:StopTrainingJob", StringEquals={f"{prefix}:ResourceTag/team": "red"})
    client = user(lab.aws, f"red-{prefix}", own)
    for team in ("red", "blue"):
        lab.start(f"{prefix}-{team}", "import time; time.sleep(600)", Tags=[{"Key": "team", "Value": team}])
    assert is_denied(client.stop_training_job, TrainingJobName=f"{prefix}-blue")
    assert not is_denied(client.stop_training_job, TrainingJobName=f"{prefix}-red")
    lab.sagemaker.stop_training_job(TrainingJobName=f"{prefix}-blue")
    eventually(lambda: lab.sagemaker.describe_training_job(TrainingJobName=f"{prefix}-blue")["TrainingJobStatus"] == "Stopped")


def test_create_domain_is_a_permission_on_domains(aws: Account) -> None:
    role = aws.role("Studio", "sagemaker.amazonaws.com")
    client = user(aws, "builder", statement("sagemaker:CreateDomain", resource=f"arn:aws:sagemaker:*:{aws.account}:domain/*"))
    client.create_domain(DomainName="one", AuthMode="IAM", DefaultUserSettings={"ExecutionRole": role})


def test_describe_algorithm_is_one_permission_however_its_name_is_written(lab: Any) -> None:
    training = {
        "TrainingImage": lab.request("x", "")["AlgorithmSpecification"]["TrainingImage"],
        "SupportedTrainingInstanceTypes": ["ml.m5.large"],
        "TrainingChannels": [{"Name": "train", "SupportedContentTypes": ["text/csv"], "SupportedInputModes": ["File"]}],
    }
    arn = lab.sagemaker.create_algorithm(AlgorithmName="secret", TrainingSpecification=training)["AlgorithmArn"]
    client = user(lab.aws, "curious", statement("sagemaker:*"), statement("sagemaker:*", "Deny", arn))
    for name in ("secret", "SECRET", arn, arn.replace("secret", "Secret")):
        assert is_denied(client.describe_algorithm, AlgorithmName=name)


def test_delete_tags_tells_its_keys(lab: Any) -> None:
    arn = lab.start("labelled", "exit 0", Tags=[{"Key": "team", "Value": "a"}, {"Key": "note", "Value": "b"}])
    notes = {"ForAllValues:StringEquals": {"aws:TagKeys": ["note"]}}
    client = user(lab.aws, "noter", statement("sagemaker:DeleteTags", **notes))
    assert is_denied(client.delete_tags, ResourceArn=arn, TagKeys=["team"])
    assert not is_denied(client.delete_tags, ResourceArn=arn, TagKeys=["note"])


def test_asked_for_looks_into_every_definition_and_not_into_the_users_own_values() -> None:
    one = {
        "EnableNetworkIsolation": True,
        "ResourceConfig": {"InstanceType": "ml.m5.large"},
        "StaticHyperParameters": {"InstanceType": "x"},
    }
    two = {"HyperParameterTuningResourceConfig": {"InstanceConfigs": [{"InstanceType": "ml.c5.large"}]}}
    found = asked_for("CreateHyperParameterTuningJob", {"TrainingJobDefinitions": [one, two]})
    assert found["sagemaker:InstanceTypes"] == ["ml.m5.large", "ml.c5.large"]
    assert found["sagemaker:NetworkIsolation"] == "false"
    both = asked_for("CreateHyperParameterTuningJob", {"TrainingJobDefinitions": [one, {**two, "EnableNetworkIsolation": True}]})
    assert both["sagemaker:NetworkIsolation"] == "true"
    keys = {"OutputDataConfig": {"KmsKeyId": "k1"}, "ResourceConfig": {"VolumeKmsKeyId": "k2"}}
    found = asked_for("CreateTrainingJob", keys)
    assert (found["sagemaker:OutputKmsKey"], found["sagemaker:VolumeKmsKey"]) == ("k1", "k2")
    limits = {"ResourceLimits": {"MaxParallelTrainingJobs": 1, "MaxRuntimeInSeconds": 9}}
    definitions = [{"StoppingCondition": {"MaxRuntimeInSeconds": seconds}} for seconds in (60, 90)]
    request = {"HyperParameterTuningJobConfig": limits, "TrainingJobDefinitions": definitions}
    assert asked_for("CreateHyperParameterTuningJob", request)["sagemaker:MaxRuntimeInSeconds"] == "90", "the longest of its jobs"
